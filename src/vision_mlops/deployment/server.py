"""The scoring server: an ASGI app over one bundle. It needs the predictor and nothing else of the package."""

from __future__ import annotations

import base64
import hmac
import io
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import numpy as np
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from vision_mlops.config.models import Serving
from vision_mlops.deployment.openapi import describe
from vision_mlops.deployment.requests import RequestError, ScoringRequest, read_scoring_request
from vision_mlops.deployment.telemetry import Telemetry, log_request, request_id
from vision_mlops.exceptions import ImageError, MlopsError
from vision_mlops.inference.predictor import Predictor

_PAGE = Path(__file__).with_name("page.html")
_IMAGE_ERRORS = {"not_an_image": (415, "not_an_image"), "too_large": (413, "image_too_large"), "empty": (400, "empty")}


class Server:
    """State and handlers of one app.

    Args:
        bundle: Folder of the model.
        model_name, model_version: What answers call the model; the bundle's name where none is given.
        key: Expected in ``X-Api-Key`` or ``Authorization: Bearer``; None leaves the server open.
        serving: Limits.
    """

    def __init__(
        self, bundle: Path, *, model_name: str = "", model_version: str = "", key: str | None, serving: Serving
    ) -> None:
        self.bundle = bundle
        self.model_name = model_name
        self.model_version = model_version
        self.key = key
        self.serving = serving
        self.telemetry = Telemetry()
        self.predictor: Predictor | None = None
        self.problem = "the model is being loaded"

    async def load(self) -> None:
        """Load, verify and warm up. A bundle that fails leaves the server alive but never ready, with the reason."""
        try:
            predictor = await anyio.to_thread.run_sync(lambda: Predictor(self.bundle))
        except MlopsError as error:
            self.problem = str(error)
            log_request(event="not_ready", reason=self.problem)
            return
        self.model_name = self.model_name or predictor.bundle.name
        # The golden examples have just been scored, which warmed the graph up.
        self.predictor = predictor
        self.telemetry.ready.set(1)

    async def score(self, request: Request) -> Response:
        """POST /score."""
        started = time.perf_counter()
        self._authorise(request)
        predictor = self.predictor
        if predictor is None:
            raise RequestError(503, "not_ready", self.problem)
        wanted = await read_scoring_request(request, self.serving, len(predictor.classes))
        answer = await anyio.to_thread.run_sync(lambda: self._score(predictor, wanted))
        answer["model"] = {"name": self.model_name, "version": self.model_version, "id": predictor.id}
        answer["timing"]["total_ms"] = _milliseconds(started)
        answer["request_id"] = request.state.request_id
        self.telemetry.latency.observe(time.perf_counter() - started)
        return JSONResponse(answer)

    def _score(self, predictor: Predictor, wanted: ScoringRequest) -> dict[str, Any]:
        started = time.perf_counter()
        pixels = []
        for number, data in enumerate(wanted.images):
            name = f"image {number}" if wanted.batch else "image"
            try:
                pixels.append(predictor.pixels(data, name=name))
            except ImageError as error:
                status, code = _IMAGE_ERRORS.get(error.reason, (422, error.reason))
                raise RequestError(status, code, error.message) from error
        decoded = time.perf_counter()
        scores = predictor.score(pixels, explain=wanted.explain)
        timing = {
            "decode_ms": round((decoded - started) * 1000, 3),
            "inference_ms": _milliseconds(decoded),
        }
        results = []
        for i, row in enumerate(scores.probabilities):
            best = predictor.top(row, wanted.top_k)
            predictions = [{"label": label, "probability": round(value, 6)} for label, value in best]
            result: dict[str, Any] = {"predictions": predictions}
            if scores.activation_maps is not None:
                result["heat_map"] = _heat_map(pixels[i], scores.activation_maps[i, int(row.argmax())])
            results.append(result)
            self.telemetry.labels.labels(best[0][0]).inc()
        self.telemetry.images.inc(len(results))
        return {"results": results, "timing": timing} if wanted.batch else {**results[0], "timing": timing}

    def _authorise(self, request: Request) -> None:
        if self.key is None:
            return
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        given = request.headers.get("x-api-key") or (token.strip() if scheme.lower() == "bearer" else "")
        if not hmac.compare_digest(given.encode(), self.key.encode()):
            raise RequestError(401, "unauthorised", "send the key in the header X-Api-Key or Authorization: Bearer")

    async def live(self, request: Request) -> Response:
        """GET /health/live."""
        return JSONResponse({"status": "live"})

    async def ready(self, request: Request) -> Response:
        """GET /health/ready."""
        if self.predictor is None:
            raise RequestError(503, "not_ready", self.problem)
        model = {"name": self.model_name, "version": self.model_version, "id": self.predictor.id}
        return JSONResponse({"status": "ready", "model": model})

    async def metrics(self, request: Request) -> Response:
        """GET /metrics."""
        return Response(generate_latest(self.telemetry.registry), media_type=CONTENT_TYPE_LATEST)

    async def openapi(self, request: Request) -> Response:
        """GET /openapi.json."""
        classes = self.predictor.classes if self.predictor else []
        return JSONResponse(describe(f"Scoring API of {self.model_name or 'a model'}", classes))

    async def page(self, request: Request) -> Response:
        """GET /: a page that scores an image of the visitor."""
        return HTMLResponse(_PAGE.read_text(encoding="utf-8"))

    async def observe(self, request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        """Count and log every request, and put its id on the answer."""
        started = time.perf_counter()
        identity = request_id(request.headers.get("x-request-id"))
        request.state.request_id = identity
        response = await call_next(request)
        response.headers["X-Request-Id"] = identity
        self.telemetry.requests.labels(str(response.status_code)).inc()
        log_request(
            request_id=identity,
            method=request.method,
            path=request.url.path,
            status=response.status_code,
            ms=_milliseconds(started),
        )
        return response


def create_app(
    bundle: Path,
    *,
    model_name: str = "",
    model_version: str = "",
    key: str | None = None,
    serving: Serving | None = None,
    on_loaded: Callable[[str], None] | None = None,
) -> Starlette:
    """The ASGI app of a bundle; see :class:`Server`. ``on_loaded`` gets "" once ready, or the problem."""
    server = Server(bundle, model_name=model_name, model_version=model_version, key=key, serving=serving or Serving())

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        async def load() -> None:
            await server.load()
            if on_loaded is not None:
                on_loaded("" if server.predictor else server.problem)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(load)  # in the background: liveness answers while the model loads
            yield

    app = Starlette(
        routes=[
            Route("/", server.page),
            Route("/score", server.score, methods=["POST"]),
            Route("/health/live", server.live),
            Route("/health/ready", server.ready),
            Route("/metrics", server.metrics),
            Route("/openapi.json", server.openapi),
        ],
        exception_handlers={RequestError: _on_request_error, HTTPException: _on_http_error},
        lifespan=lifespan,
    )
    app.state.server = server
    from starlette.middleware.base import BaseHTTPMiddleware

    app.add_middleware(BaseHTTPMiddleware, dispatch=server.observe)
    return app


async def _on_request_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestError)
    headers = {"WWW-Authenticate": "Bearer"} if error.status == 401 else None
    return _error(error.status, error.code, error.message, headers)


async def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    codes = {404: "not_found", 405: "method_not_allowed"}
    code = codes.get(error.status_code, "error")
    return _error(error.status_code, code, f"{request.method} {request.url.path}: {error.detail}", error.headers)


def _error(status: int, code: str, message: str, headers: Any = None) -> Response:
    return JSONResponse({"error": {"code": code, "message": message}}, status_code=status, headers=headers)


def _heat_map(pixels: np.ndarray, activation_map: np.ndarray) -> str:
    """Base64 of a PNG: the image as the network saw it, under its heat map."""
    from PIL import Image

    from vision_mlops.inference.explain import overlay

    stream = io.BytesIO()
    overlay(Image.fromarray(pixels), activation_map).save(stream, "PNG")
    return base64.b64encode(stream.getvalue()).decode()


def _milliseconds(since: float) -> float:
    return round((time.perf_counter() - since) * 1000, 3)
