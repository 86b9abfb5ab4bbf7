"""The application of the router: which deployment responds to a request, and the few to which the router itself responds."""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from vision_mlops.endpoints.local.router.backend import Backend
from vision_mlops.endpoints.local.router.counters import expose
from vision_mlops.endpoints.local.router.exchange import RETRY, Exchange, Mirror
from vision_mlops.endpoints.local.router.traffic_shares import Shares
from vision_mlops.serving.http.cross_origin import CrossOrigin
from vision_mlops.serving.http.http_connection import Hub, too_large
from vision_mlops.serving.http.http_messages import Request, Response

_LOG = logging.getLogger(__name__)
_PICK = b"azureml-model-deployment"
_BODIES = 8
_LEAST_BODY = 2**20  # while no server has reported its limit: requests that change the endpoint are small
_MARGIN_SECONDS = 5.0
"""A server itself reports that it was too slow: the router waits longer for that."""
ADMIN = "/admin/"


class RouterApp:
    """Sends each request to a deployment; to be created in its event loop.

    Args:
        key: Key that opens ``/admin/``.
        obey: Executes a request of an owner of the key; returns None if the response comes later.
    """

    def __init__(self, key: str, obey: Callable[[Request], Response | None]) -> None:
        self._key = key.encode()
        self._obey = obey
        self.backends: dict[str, Backend] = {}
        self.shares = Shares()
        self.traffic: dict[str, int] = {}
        self.mirror: Mirror | None = None
        self.draining = False
        self.head_timeout_s = 10.0
        self.keep_alive_s = 75.0
        self.hub = Hub(self)
        self._tasks: set[asyncio.Task[None]] = set()
        self._own: dict[str, Callable[[], Response]] = {
            "/health/live": self._live, "/health/ready": self._ready, "/metrics": self._metrics
        }  # fmt: skip
        self.set_limits()

    def set_limits(self) -> None:
        """Set the limits to the largest of those of the servers."""
        servers = [backend.server for backend in self.backends.values()]
        self.max_body = max((server.max_body for server in servers), default=0) or _LEAST_BODY
        self.max_buffered = _BODIES * self.max_body
        self.cross_origin = CrossOrigin(origin for server in servers for origin in server.cors_origins)
        self.request_timeout_s = max((server.request_timeout_s for server in servers), default=0.0) + _MARGIN_SECONDS

    def share(self, traffic: dict[str, int], mirror: dict[str, int]) -> None:
        """Change the shares of the traffic, from the next request on."""
        self.traffic = traffic
        self.shares = Shares([(self.backends[name], share) for name, share in traffic.items()])
        if self.mirror is not None:
            self.mirror.stop()
        copied = [(self.backends[name], percent) for name, percent in mirror.items() if percent]
        self.mirror = Mirror(self, *copied[0]) if copied else None

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run something in the background; it is kept until it is done."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # Requests of a connection

    def refuse(self, request: Request) -> Response | None:
        """Return a response that needs no body, or None."""
        request.identify()
        if request.declared_size() > self.max_body:
            return Response.error(413, "body_too_large", too_large(self.max_body))
        return None

    def handle(self, request: Request) -> Response | None:
        """Respond to a complete request, or forward it."""
        if not request.request_id:
            request.identify()
        path = request.path
        if path.startswith(ADMIN):
            return self._administer(request)
        name = request.headers.get(_PICK)
        if name is not None:
            backend = self.backends.get(name.decode("latin-1"))
            if backend is None:
                known = ", ".join(self.backends) or "none"
                message = f"this endpoint has no deployment {name.decode('latin-1')[:64]!r}; it has: {known}"
                return Response.error(404, "deployment_not_found", message)
            if not backend.ready:
                return Response.error(503, "not_ready", f"deployment {backend.name}: {backend.problem}", RETRY)
            self._forward(request, backend, picked=True)
            return None
        if path == "/score":
            chosen = self.shares.next()
        elif path in self._own:
            return self._respond_here(request)
        else:
            chosen = self.shares.largest()
        if chosen is None:
            return Response.error(503, "not_ready", self._problem(), RETRY)
        self._forward(request, chosen, picked=False)
        return None

    def answered(self, request: Request, response: Response) -> None:
        """Note a response: one that came too late counts as a failure."""
        if response.code == "timeout" and isinstance(request.job, Exchange):
            request.job.backend.counters.failed()

    def _forward(self, request: Request, backend: Backend, *, picked: bool) -> None:
        exchange = Exchange(self, request, backend, picked=picked)
        request.job = exchange
        exchange.start()

    # Responses of the router itself

    def _respond_here(self, request: Request) -> Response:
        if request.method == "OPTIONS":
            return Response(204, b"", headers=((b"allow", b"GET, HEAD, OPTIONS"),))
        if request.method not in ("GET", "HEAD"):
            message = f"{request.path} takes GET, not {request.method}"
            return Response.error(405, "method_not_allowed", message, ((b"allow", b"GET"),))
        return self._own[request.path]()

    def _live(self) -> Response:
        return Response.json(200, {"status": "live"})

    def _ready(self) -> Response:
        if self.draining:
            return Response.error(503, "draining", "the endpoint is shutting down")
        if not self.shares.ready:
            return Response.error(503, "not_ready", self._problem())
        states = {name: str(backend.state) for name, backend in self.backends.items()}
        return Response.json(200, {"status": "ready", "deployments": states})

    def _metrics(self) -> Response:
        counters = {name: backend.counters for name, backend in self.backends.items()}
        content, kind = expose(counters, {name: item.ready for name, item in self.backends.items()}, self.traffic)
        return Response(200, content, kind.encode())

    def _problem(self) -> str:
        waiting = [
            f"deployment {name}: {self.backends[name].problem}" for name in self.traffic if name in self.backends
        ]
        return "; ".join(waiting) or "the endpoint has no deployment yet"

    def _administer(self, request: Request) -> Response | None:
        if not hmac.compare_digest(request.headers.get(b"x-api-key", b""), self._key):
            return Response.error(
                403, "admin_disabled", "use `mlops endpoint` and `mlops deploy` to change an endpoint"
            )
        if request.method != "POST":
            return Response.error(405, "method_not_allowed", "use POST", ((b"allow", b"POST"),))
        try:
            return self._obey(request)
        except Exception as error:  # noqa: BLE001 - the caller gets an error, and others are still served
            _LOG.exception("%s failed", request.path)
            return Response.error(500, "internal", f"{type(error).__name__}: {error}")
