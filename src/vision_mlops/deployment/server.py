"""The scoring server: a bare ASGI app over one model. It needs the predictor and nothing else of the package.

The event loop reads requests and writes answers; the :class:`~vision_mlops.deployment.scorer.Scorer`, one thread behind one
bounded queue, parses, decodes and infers. One process of the server runs one app.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import os
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST

from vision_mlops.config.models import Serving
from vision_mlops.deployment.answers import score
from vision_mlops.deployment.logs import log_event
from vision_mlops.deployment.messages import (
    JSON,
    Body,
    BodyBudget,
    DisconnectedError,
    Receive,
    Scope,
    Send,
    read_headers,
    respond,
)
from vision_mlops.deployment.models import ModelSource, ServedModel, load_model
from vision_mlops.deployment.openapi import describe
from vision_mlops.deployment.requests import RequestError, read_scoring_request
from vision_mlops.deployment.scorer import AbandonedError, Job, QueueFullError, Scorer
from vision_mlops.deployment.telemetry import Telemetry
from vision_mlops.deployment.tracing import new_request_id, read_context
from vision_mlops.exceptions import MlopsError

_PAGE = Path(__file__).with_name("page.html")
_LOG = logging.getLogger(__name__)
_UNPRINTABLE = re.compile(r"[^A-Za-z0-9._:-]")
_QUICK_BYTES = 8 * 2**20
_BUDGET = 8
"""So many bodies of the largest size may be in memory at once."""

Handler = Callable[["Exchange", Receive], Awaitable["Answer"]]
Reloader = Callable[[ModelSource], Awaitable[dict[str, Any]]]
"""Swaps the model of the whole server; returns the description of the new one. Raises RequestError."""


class Answer:
    """Status, body and headers of what is sent back."""

    __slots__ = ("body", "headers", "kind", "status")

    def __init__(
        self, status: int, body: bytes, kind: bytes = JSON, headers: tuple[tuple[bytes, bytes], ...] = ()
    ) -> None:
        self.status = status
        self.body = body
        self.kind = kind
        self.headers = headers

    @classmethod
    def json(cls, status: int, content: Any, headers: tuple[tuple[bytes, bytes], ...] = ()) -> Answer:
        """An answer with a JSON body."""
        return cls(status, json.dumps(content).encode(), JSON, headers)

    @classmethod
    def error(cls, error: RequestError, *headers: tuple[bytes, bytes]) -> Answer:
        """An answer that says what is wrong."""
        content = {"error": {"code": error.code, "message": error.message}}
        return cls.json(error.status, content, (*error.headers, *headers))


class Exchange:
    """One request being answered. The times of its parts, in milliseconds, are known once it was scored."""

    __slots__ = ("headers", "inference_ms", "queue_ms", "request_id", "scope", "started", "trace")

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self.started = time.perf_counter()
        self.headers = read_headers(scope)
        given = self.headers.get(b"x-request-id", b"").decode("latin-1")
        self.request_id = (_UNPRINTABLE.sub("", given)[:128] if given else "") or new_request_id()
        self.trace = read_context(self.text(b"traceparent"), self.text(b"tracestate"))
        self.queue_ms = self.inference_ms = 0.0

    def text(self, name: bytes) -> str:
        """Value of a header, empty where it was not sent."""
        value = self.headers.get(name)
        return value.decode("latin-1") if value else ""


class ScoringApp:
    """State and handlers of one process.

    Args:
        source: The bundle to begin with.
        serving: Limits.
        key: Expected in ``X-Api-Key`` or ``Authorization: Bearer`` of a scoring request; None leaves the server open.
        admin_key: The same for ``/admin``; None closes it.
        reloader: Swaps the model of all processes; None swaps it in this one, which is then the only one.
    """

    def __init__(
        self,
        source: ModelSource,
        *,
        serving: Serving | None = None,
        key: str | None = None,
        admin_key: str | None = None,
        reloader: Reloader | None = None,
    ) -> None:
        self.source = source
        self.serving = serving or Serving()
        self.telemetry = Telemetry()
        self.model: ServedModel | None = None
        self.problem = "the model is being loaded"
        self.draining = False
        self.reloader = reloader or self._reload_here
        self._key = key
        self._admin_key = admin_key
        self._budget = BodyBudget(_BUDGET * self.serving.max_body_mb * 2**20)
        self._scorer: Scorer | None = None
        self._reloading = asyncio.Lock()
        self._routes: dict[str, dict[str, Handler]] = {
            "/score": {"POST": self._score},
            "/health/live": {"GET": self._live},
            "/health/ready": {"GET": self._ready},
            "/metrics": {"GET": self._metrics},
            "/openapi.json": {"GET": self._openapi},
            "/admin/reload": {"POST": self._reload},
            "/": {"GET": self._page},
        }

    async def load(self, source: ModelSource) -> ServedModel:
        """Load a bundle beside the current one, which goes on answering. Raises BundleError and its kin."""
        return await asyncio.to_thread(load_model, source)

    def swap(self, source: ModelSource, model: ServedModel) -> None:
        """Answer with another model from the next request on; those under way end with the old one."""
        self.source, self.model, self.problem = source, model, ""
        self.telemetry.show_model(model.name, model.version, model.predictor.id)

    async def start(self) -> None:
        """Load the first model. A bundle that fails leaves the app alive but never ready, with the reason."""
        self.scorer()
        try:
            model = await self.load(self.source)
        except MlopsError as error:
            self.problem = str(error)
            log_event("not_ready", reason=self.problem, pid=os.getpid())
        else:
            if self.model is None:  # else another one was swapped in meanwhile
                self.swap(self.source, model)

    def scorer(self) -> Scorer:
        """The scorer of this process, made in its event loop."""
        if self._scorer is None:
            self._scorer = Scorer(self.serving.max_queue)
        return self._scorer

    def close(self) -> None:
        """End the scorer's thread."""
        if self._scorer is not None:
            self._scorer.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI entry point."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http":
            await self._answer(scope, receive, send)
        else:
            raise RuntimeError(f"{scope['type']} is not served")

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        loading = asyncio.create_task(self.start())  # in the background: liveness answers while the model loads
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await loading
        self.close()
        await send({"type": "lifespan.shutdown.complete"})

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange(scope)
        self.telemetry.in_flight.inc()
        try:
            answer = await self._route(scope)(exchange, receive)
        except RequestError as error:
            answer = Answer.error(error)
        except DisconnectedError:
            answer = Answer.error(RequestError(400, "disconnected", "the client closed the connection"))
        except AbandonedError:
            answer = Answer.error(RequestError(499, "disconnected", "the client closed the connection"))
        except Exception:  # noqa: BLE001 - a request that fails must not take the connection with it
            _LOG.exception("request %s failed", exchange.request_id)
            answer = Answer.error(RequestError(500, "internal", f"the server's log says more: {exchange.request_id}"))
        headers = (*answer.headers, (b"x-request-id", exchange.request_id.encode()))
        if self.draining:
            headers = (*headers, (b"connection", b"close"))
        await respond(send, answer.status, answer.body, answer.kind, headers)
        self.telemetry.in_flight.dec()
        self.telemetry.count_request(answer.status)
        self._log(exchange, answer.status)

    def _log(self, exchange: Exchange, status: int) -> None:
        fields: dict[str, Any] = {
            "request_id": exchange.request_id,
            "trace_id": exchange.trace.trace_id,
            "span_id": exchange.trace.span_id,
            "method": exchange.scope["method"],
            "path": exchange.scope["path"],
            "status": status,
            "ms": milliseconds(exchange.started),
        }
        if exchange.inference_ms:
            fields |= {"queue_ms": exchange.queue_ms, "inference_ms": exchange.inference_ms}
        log_event("request", **fields, model=self.model.predictor.id if self.model else "", pid=os.getpid())

    def _route(self, scope: Scope) -> Handler:
        methods = self._routes.get(scope["path"])
        if methods is None:
            raise RequestError(404, "not_found", f"{scope['path']}: there is nothing here; /openapi.json says what is")
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        if method not in methods:
            allowed = ", ".join(methods)
            message = f"{scope['path']} takes {allowed}, not {scope['method']}"
            raise RequestError(405, "method_not_allowed", message, ((b"allow", allowed.encode()),))
        return methods[method]

    async def _score(self, exchange: Exchange, receive: Receive) -> Answer:
        """POST /score."""
        self._authorise(exchange, self._key)
        model = self.model
        if model is None:
            raise RequestError(503, "not_ready", self.problem)
        scorer = self.scorer()
        body = Body(self.serving.max_body_mb * 2**20, self._budget)
        job: Job | None = None
        try:
            scorer.check_room()  # before the body is read
            async with asyncio.timeout(self.serving.request_timeout_s):
                content = await body.read(receive, exchange.headers.get(b"content-length", b""))
                job = scorer.submit(
                    partial(self._work, exchange, model, content), quick=self._is_quick(exchange, content)
                )
                exchange.scope.setdefault("state", {})["job"] = job
                answer: Answer = await job.future
        except QueueFullError as error:
            self.telemetry.rejected.inc()
            retry = ((b"retry-after", str(error.retry_after_s).encode()),)
            raise RequestError(429, "too_many_requests", str(error), retry) from error
        except TimeoutError as error:
            if job is not None:
                job.abandoned = True
                raise RequestError(
                    503, "timeout", f"no answer within {self.serving.request_timeout_s} s", ((b"retry-after", b"1"),)
                ) from error
            message = f"the body was not complete within {self.serving.request_timeout_s} s"
            raise RequestError(408, "request_timeout", message, ((b"connection", b"close"),)) from error
        finally:
            body.release()
        self.telemetry.latency.observe(time.perf_counter() - exchange.started)
        return answer

    def _is_quick(self, exchange: Exchange, content: bytes) -> bool:
        """One image that is decoded and inferred in some milliseconds."""
        return not exchange.scope["query_string"] and content[:3] == b"\xff\xd8\xff" and len(content) <= _QUICK_BYTES

    def _work(self, exchange: Exchange, model: ServedModel, content: bytes, job: Job) -> Answer:
        """What the scorer's thread does for one request."""
        predictor = model.predictor
        waited = time.perf_counter() - job.submitted
        wanted = read_scoring_request(
            exchange.text(b"content-type"),
            exchange.scope["query_string"].decode("latin-1"),
            content,
            serving=self.serving,
            classes=len(predictor.classes),
        )

        def check() -> None:
            if job.abandoned:
                raise AbandonedError

        result, labels = score(predictor, wanted, check=check)
        result["model"] = model.describe()
        result["timing"]["total_ms"] = milliseconds(exchange.started)
        result["request_id"] = exchange.request_id
        exchange.queue_ms = round(waited * 1000, 3)
        exchange.inference_ms = result["timing"]["inference_ms"]
        for label in labels:
            self.telemetry.count_label(label)
        self.telemetry.images.inc(len(labels))
        self.telemetry.queue.observe(waited)
        return Answer.json(200, result)

    def _authorise(self, exchange: Exchange, key: str | None) -> None:
        if key is None:
            return
        scheme, _, token = exchange.headers.get(b"authorization", b"").partition(b" ")
        given = exchange.headers.get(b"x-api-key") or (token.strip() if scheme.lower() == b"bearer" else b"")
        if not hmac.compare_digest(given, key.encode()):
            message = "send the key in the header X-Api-Key or Authorization: Bearer"
            raise RequestError(401, "unauthorised", message, ((b"www-authenticate", b"Bearer"),))

    async def _live(self, exchange: Exchange, receive: Receive) -> Answer:
        return Answer.json(200, {"status": "live"})

    async def _ready(self, exchange: Exchange, receive: Receive) -> Answer:
        if self.draining:
            raise RequestError(503, "draining", "the server is shutting down")
        if self.model is None:
            raise RequestError(503, "not_ready", self.problem)
        return Answer.json(200, {"status": "ready", "model": self.model.describe()})

    async def _metrics(self, exchange: Exchange, receive: Receive) -> Answer:
        return Answer(200, self.telemetry.expose(), CONTENT_TYPE_LATEST.encode())

    async def _openapi(self, exchange: Exchange, receive: Receive) -> Answer:
        title = f"Scoring API of {self.model.name if self.model else 'a model'}"
        return Answer.json(200, describe(title, self.model.predictor.classes if self.model else []))

    async def _page(self, exchange: Exchange, receive: Receive) -> Answer:
        return Answer(200, _PAGE.read_bytes(), b"text/html; charset=utf-8")

    async def _reload(self, exchange: Exchange, receive: Receive) -> Answer:
        """POST /admin/reload: another bundle, or the same folder anew."""
        if self._admin_key is None:
            message = "there is no administration without a key of its own: start the server with MLOPS_ADMIN_KEY"
            raise RequestError(403, "admin_disabled", message)
        self._authorise(exchange, self._admin_key)
        body = Body(64 * 1024, self._budget)
        try:
            async with asyncio.timeout(self.serving.request_timeout_s):
                content = await body.read(receive, exchange.headers.get(b"content-length", b""))
        except TimeoutError as error:
            raise RequestError(408, "request_timeout", "the body was not complete in time") from error
        finally:
            body.release()
        source = read_reload(content, self.source)
        if self._reloading.locked():
            raise RequestError(409, "reloading", "a model is being loaded already; try again when it is")
        async with self._reloading:
            try:
                model = await self.reloader(source)
            except RequestError:
                self.telemetry.count_reload("failed")
                raise
        self.telemetry.count_reload("done")
        return Answer.json(200, {"status": "reloaded", "model": model})

    async def _reload_here(self, source: ModelSource) -> dict[str, Any]:
        try:
            model = await self.load(source)
        except MlopsError as error:
            raise RequestError(422, "bundle_refused", str(error)) from error
        self.swap(source, model)
        return model.describe()


def read_reload(body: bytes, current: ModelSource) -> ModelSource:
    """What a reload asks for: JSON with ``bundle`` (a folder on the server), ``name`` and ``version``, each optional.

    Raises:
        RequestError: 400, it is something else.
    """
    form = '{"bundle": FOLDER, "name": NAME, "version": VERSION}, each of them optional'
    try:
        content = json.loads(body or b"{}")
    except (ValueError, RecursionError) as error:
        raise RequestError(400, "bad_json", f"the body is not valid JSON: {error}") from error
    if not isinstance(content, dict) or not all(
        name in ("bundle", "name", "version") and isinstance(value, str) for name, value in content.items()
    ):
        raise RequestError(400, "bad_json", f"JSON must be {form}")
    if "bundle" not in content:
        return replace(current, **content)
    new = ModelSource(Path(content["bundle"]), precision=current.precision, threads=current.threads)
    return replace(new, name=content.get("name", current.name), version=content.get("version", ""))


def milliseconds(since: float) -> float:
    """Time since a reading of the performance counter."""
    return round((time.perf_counter() - since) * 1000, 3)


def create_app(
    bundle: Path,
    *,
    model_name: str = "",
    model_version: str = "",
    key: str | None = None,
    admin_key: str | None = None,
    serving: Serving | None = None,
) -> ScoringApp:
    """The app of one process that serves alone, for other ASGI servers and for tests."""
    source = ModelSource(bundle, model_name, model_version)
    return ScoringApp(source, serving=serving, key=key, admin_key=admin_key)
