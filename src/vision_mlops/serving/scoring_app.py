"""The scoring server's application in one process: who gets which response, over one model.

It needs the predictor and nothing else of the package. :mod:`~vision_mlops.serving.http.http_connection` speaks HTTP for
it, and the :class:`~vision_mlops.serving.scoring_queue.Scorer` decides when a request is scored.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST

from vision_mlops.config.workload import Serving
from vision_mlops.core.errors import MlopsError
from vision_mlops.serving.access_keys import AccessKeys
from vision_mlops.serving.http.content_codings import decode_body
from vision_mlops.serving.http.cross_origin import CrossOrigin
from vision_mlops.serving.http.http_connection import Hub, too_large
from vision_mlops.serving.http.http_messages import Request, RequestError, Response
from vision_mlops.serving.http.openapi import LOADING, describe
from vision_mlops.serving.http.scoring_requests import read_scoring_request
from vision_mlops.serving.prediction_log.predictions import PredictionLog, PredictionSample
from vision_mlops.serving.responses import description, score
from vision_mlops.serving.scoring_queue import AbandonedError, Job, Scorer
from vision_mlops.serving.served_model import (
    OTHER_CLASSES,
    ModelSource,
    ReloadRequest,
    ServedModel,
    load_model,
    other_classes,
    read_reload,
)
from vision_mlops.serving.telemetry.prometheus_metrics import Telemetry
from vision_mlops.serving.telemetry.request_metrics import RequestMetrics
from vision_mlops.serving.telemetry.server_log import READINESS, AnsweredRequest, log_event
from vision_mlops.serving.telemetry.tracing import Tracing

_PAGE = Path(__file__).with_name("page.html").read_bytes()  # an update of the package must not take it from a server
_LOG = logging.getLogger(__name__)
_BODIES = 8
"""So many bodies of the largest size may be in memory at once."""

Reloader = Callable[[ReloadRequest], Awaitable[dict[str, Any]]]
"""Swaps the model of the whole server; returns the description of the new one. Raises RequestError."""


class ScoringApp:
    """State and handlers of one process. To be made in its event loop.

    Args:
        source: The bundle to begin with.
        serving: Limits.
        keys: One is expected in ``X-Api-Key`` or ``Authorization: Bearer`` of a scoring request; None, or a set without
            any, leaves the server open.
        admin_key: The same for ``/admin``; None closes it.
        reloader: Swaps the model of all processes; None swaps it in this one, which is then the only one.
    """

    def __init__(
        self,
        source: ModelSource,
        *,
        serving: Serving | None = None,
        keys: AccessKeys | None = None,
        admin_key: str | None = None,
        reloader: Reloader | None = None,
    ) -> None:
        limits = self.serving = serving or Serving()
        self.source = source
        self.telemetry = Telemetry()
        self.request_metrics = RequestMetrics(self.telemetry)
        self.tracing = Tracing()  # a worker puts the exporting one here, and the log of predictions
        self.predictions: PredictionLog | None = None
        self.model: ServedModel | None = None
        self.problem = LOADING
        self.draining = False
        self.max_body = limits.max_body_mb * 2**20
        self.max_buffered = _BODIES * self.max_body
        self.request_timeout_s = float(limits.request_timeout_s)
        self.head_timeout_s = float(limits.head_timeout_s)
        self.keep_alive_s = float(limits.keep_alive_s)
        self.cross_origin = CrossOrigin(limits.cors_origins)
        self.scorer = Scorer(limits.max_queue)
        self.hub = Hub(self)
        self._reloader = reloader or self._reload_here
        self._reloading: asyncio.Task[None] | None = None
        self.keys = keys
        self._admin_keys = AccessKeys([admin_key]) if admin_key else None
        self._routes: dict[str, dict[str, Callable[[Request], Response | None]]] = {
            "/score": {"POST": self._score},
            "/health/live": {"GET": lambda _: Response.json(200, {"status": "live"})},
            READINESS: {"GET": self._ready},
            "/metrics": {"GET": self._metrics},
            "/openapi.json": {"GET": self._openapi},
            "/admin/reload": {"POST": self._reload},
            "/": {"GET": lambda _: Response(200, _PAGE, b"text/html; charset=utf-8")},
            "*": {},  # the server as a whole, which only OPTIONS asks for
        }

    # The model

    async def load(self, source: ModelSource) -> ServedModel:
        """Load a bundle beside the current one, which stays in use. Raises BundleError and its subclasses."""
        return await asyncio.to_thread(load_model, source)

    def swap(self, source: ModelSource, model: ServedModel) -> None:
        """Use another model from the next request on; those under way end with the old one."""
        self.source, self.model, self.problem = source, model, ""
        self.telemetry.show_model(model.name, model.version, model.predictor.id, model.predictor.classes)

    async def start(self) -> None:
        """Load the first model. A bundle that fails leaves the app alive but never ready, with the reason."""
        try:
            model = await self.load(self.source)
        except MlopsError as error:
            self.problem = error.on_one_line()
            log_event("not_ready", "error", reason=self.problem, pid=os.getpid())
        else:
            if self.model is None:  # else another one has been swapped in since
                self.swap(self.source, model)

    def close(self) -> None:
        """End the scorer, and count and log what is left."""
        self.scorer.close()
        self.request_metrics.book()

    # What a connection asks for

    def refuse(self, request: Request) -> Response | None:
        """Return a response that needs no body: the key is wrong, the queue is full, or the body will be too large."""
        self._identify(request)
        try:
            self._check(request)
            if request.declared_size() > self.max_body:
                return Response.error(413, "body_too_large", too_large(self.max_body))
        except RequestError as error:
            return error.response()
        return None

    def handle(self, request: Request) -> Response | None:
        """Respond to a complete request now, or later by the connection's ``respond``."""
        if not request.request_id:
            self._identify(request)
        try:
            return self._check(request)(request)
        except RequestError as error:
            return error.response()
        except Exception:  # noqa: BLE001 - a request that fails must not take the connection with it
            return self._failed(request)

    def answered(self, request: Request, answer: Response) -> None:
        """Count and log a request, and end its span."""
        trace, scored = request.trace, request.inference_ms > 0
        model_id = self.model.predictor.id if self.model else ""
        entry = AnsweredRequest(
            time.time(), request.request_id, request.method, request.path, answer.status, milliseconds(request.started),
            trace.trace_id if trace else "", trace.span_id if trace else "", model_id,
            request.queue_ms if scored else None, request.inference_ms if scored else None, answer.code, request.labels,
        )  # fmt: skip
        self.request_metrics.add(entry)
        if trace is not None and request.path == "/score":
            self.tracing.end(trace, entry)

    def _identify(self, request: Request) -> None:
        request.identify()
        request.trace = self.tracing.begin(request.text(b"traceparent"), request.text(b"tracestate"))

    def _check(self, request: Request) -> Callable[[Request], Response | None]:
        """Return the handler of an acceptable request. Raises RequestError for any other."""
        methods = self._routes.get(request.path)
        if methods is None:
            raise RequestError(404, "not_found", f"{request.path[:200]} does not exist; /openapi.json lists what does")
        if request.method == "OPTIONS":  # without a key: browsers send none with the question whether they may
            return self._options
        handler = methods.get("GET" if request.method == "HEAD" else request.method)
        if handler is None:
            allowed = ", ".join(methods)
            message = f"{request.path} takes {allowed}, not {request.method}"
            raise RequestError(405, "method_not_allowed", message, ((b"allow", allowed.encode()),))
        if request.path == "/score":
            self._authorise(request, self.keys, "a key of this server")
            if self.model is None:
                raise RequestError(503, "not_ready", self.problem)
            self.scorer.check_room()
        elif request.path.startswith("/admin/"):
            if self._admin_keys is None:
                message = "administration needs a key of its own: start the server with MLOPS_ADMIN_KEY"
                raise RequestError(403, "admin_disabled", message)
            self._authorise(request, self._admin_keys, "the server's MLOPS_ADMIN_KEY, which alone opens /admin")
        return handler

    def _authorise(self, request: Request, keys: AccessKeys | None, name: str) -> None:
        if not keys:
            return
        scheme, _, token = request.headers.get(b"authorization", b"").partition(b" ")
        given = request.headers.get(b"x-api-key") or (token.strip() if scheme.lower() == b"bearer" else b"")
        if not keys.accepts(given):
            message = "send the key in the header X-Api-Key or Authorization: Bearer"
            if given:
                message = f"the key is wrong: what was sent is not {name}"
            elif scheme:
                message = f"the header Authorization contains no key: {message}"
            raise RequestError(401, "unauthorised", message, ((b"www-authenticate", b"Bearer"),))

    def _failed(self, request: Request) -> Response:
        _LOG.exception("request %s failed", request.request_id)
        return Response.error(500, "internal", f"see request {request.request_id} in the server's log")

    # Scoring

    def _score(self, request: Request) -> None:
        """Handle POST /score."""
        assert self.model is not None
        work = partial(self._work, request, self.model, request.body)
        self.request_metrics.in_flight += 1
        request.job = self.scorer.submit(work, partial(self._scored, request))

    def _work(self, request: Request, model: ServedModel, content: bytes, job: Job) -> Response:
        """Do the work of one request when its turn has come, on the scorer's thread."""
        predictor = model.predictor
        waited = time.perf_counter() - job.submitted

        def check() -> None:
            if job.abandoned:
                raise AbandonedError

        wanted = read_scoring_request(
            request.text(b"content-type"), request.query, content, serving=self.serving,
            classes=len(predictor.classes), content_encoding=request.text(b"content-encoding"),
        )  # fmt: skip
        if wanted.describe:
            return Response.json(200, description(model, self.serving, request.request_id))
        result, labels, rows = score(model, wanted, request_id=request.request_id, started=request.started, check=check)
        request.queue_ms = round(waited * 1000, 3)
        request.inference_ms = result["timing"]["inference_ms"]
        request.labels = tuple(labels)
        trace, log = request.trace, self.predictions
        if log is not None and log.wants(trace.trace_id if trace and trace.parent_id else request.request_id):
            log.put(
                PredictionSample(
                    request.request_id, trace.trace_id if trace else "", result["model"], predictor.classes, wanted.images,
                    rows, result["timing"]["total_ms"],
                )
            )  # fmt: skip
        return Response.json(200, result)

    def _scored(self, request: Request, answer: Response | None, error: Exception | None) -> None:
        self.request_metrics.in_flight -= 1
        if isinstance(error, AbandonedError):
            return
        if isinstance(error, RequestError):
            answer = error.response()
        elif answer is None:
            try:
                raise error or RuntimeError("no answer")
            except Exception:  # noqa: BLE001 - raised only to be logged with its traceback
                answer = self._failed(request)
        request.connection.respond(request, answer)

    # The rest

    def _options(self, request: Request) -> Response:
        methods = {"*": ("GET", "POST")}.get(request.path) or self._routes[request.path]
        allowed = ", ".join([*methods, *(["HEAD"] if "GET" in methods else []), "OPTIONS"])
        return Response(204, b"", headers=((b"allow", allowed.encode()),))

    def _ready(self, request: Request) -> Response:
        if self.draining:
            return Response.error(503, "draining", "the server is shutting down")
        if self.model is None:
            return Response.error(503, "not_ready", self.problem)
        return Response.json(200, {"status": "ready", "model": self.model.describe()})

    def _metrics(self, request: Request) -> Response:
        self.request_metrics.book()
        return Response(200, self.telemetry.expose(), CONTENT_TYPE_LATEST.encode())

    def _openapi(self, request: Request) -> Response:
        title = f"Scoring API of {self.model.name if self.model else 'a model'}"
        return Response.json(200, describe(title, self.model.predictor.classes if self.model else []))

    # Another model

    def _reload(self, request: Request) -> Response | None:
        """Handle POST /admin/reload: load another bundle, or the same folder again."""
        body = decode_body(request.body, request.text(b"content-encoding"), self.max_body)
        wanted = read_reload(body, self.source)
        if self._reloading is not None and not self._reloading.done():
            return Response.error(409, "reloading", "another model is being loaded; try again when that is done")
        self._reloading = asyncio.get_running_loop().create_task(self._swap_for(request, wanted))
        return None

    async def _swap_for(self, request: Request, wanted: ReloadRequest) -> None:
        try:
            model = await self._reloader(wanted)
        except RequestError as error:
            self.telemetry.count_reload("failed")
            answer = error.response()
        except Exception:  # noqa: BLE001 - the one who asked must be told, and the model stays
            self.telemetry.count_reload("failed")
            answer = self._failed(request)
        else:
            self.telemetry.count_reload("done")
            answer = Response.json(200, {"status": "reloaded", "model": model})
        request.connection.respond(request, answer)

    async def _reload_here(self, wanted: ReloadRequest) -> dict[str, Any]:
        try:
            model = await self.load(wanted.source)
        except MlopsError as error:
            raise RequestError(422, "bundle_refused", error.on_one_line()) from error
        if not wanted.other_classes and (problem := other_classes(self.model, model)):
            raise RequestError(409, OTHER_CLASSES, problem)
        self.swap(wanted.source, model)
        return model.describe()


def milliseconds(since: float) -> float:
    """Return the time since a reading of the performance counter."""
    return round((time.perf_counter() - since) * 1000, 3)
