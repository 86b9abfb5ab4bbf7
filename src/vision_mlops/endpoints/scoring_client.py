"""Sending images to a scoring endpoint, wherever it is."""

from __future__ import annotations

import http.client
import json
import mimetypes
import os
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from vision_mlops.core.errors import DeploymentError
from vision_mlops.endpoints.contract import DEPLOYMENT_HEADER, Access
from vision_mlops.serving.server_health import proxies_for

_MODEL_STATUS = "ms-azureml-model-error-statuscode"


@dataclass(frozen=True, slots=True)
class ScoringResponse:
    """The response for one image. ``status`` is that of HTTP, 0 without a response; ``seconds`` is the time it took."""

    status: int
    seconds: float
    body: Mapping[str, Any]
    deployment: str = ""
    problem: str = ""

    @property
    def ok(self) -> bool:
        """Whether the image was scored."""
        return self.status == 200 and bool(self.body.get("predictions"))

    @property
    def label(self) -> str:
        """The most probable class; empty where it was not scored."""
        return str(self.body["predictions"][0]["label"]) if self.ok else ""


def score_file(access: Access, image: Path, deployment: str = "", *, timeout_s: float = 30.0) -> ScoringResponse:
    """Score one image file, see :func:`score`. Raises DeploymentError where the file cannot be read."""
    try:
        content = image.read_bytes()
    except OSError as error:
        raise DeploymentError(f"{image} cannot be read: {error.strerror}", "give the path of an image") from error
    kind = mimetypes.guess_type(image.name)[0] or "application/octet-stream"
    return score(access, content, kind, deployment, timeout_s=timeout_s)


def score(
    access: Access, image: bytes, kind: str = "image/jpeg", deployment: str = "", *, timeout_s: float = 30.0
) -> ScoringResponse:
    """Score one image. It raises nothing that the endpoint causes: the result says what came back.

    Args:
        access: Of the endpoint.
        image: An encoded image.
        kind: Its media type.
        deployment: Deployment that is to respond; without one, the traffic decides.
        timeout_s: Seconds to wait for the response.
    """
    headers = {"Content-Type": kind, **access.headers}
    url = access.url
    if deployment:
        headers[DEPLOYMENT_HEADER] = deployment
        url = access.deployments.get(deployment, url)
    request = urllib.request.Request(url, image, headers, method="POST")
    handlers: list[urllib.request.BaseHandler] = [proxies_for(url)]
    if url.startswith("https:"):
        handlers.append(urllib.request.HTTPSHandler(context=_trusting(os.environ.get("REQUESTS_CA_BUNDLE", ""))))
    started = time.perf_counter()
    try:
        with urllib.request.build_opener(*handlers).open(request, timeout=timeout_s) as response:
            status, answered, raw = response.status, response.headers.get(DEPLOYMENT_HEADER, ""), response.read()
    except urllib.error.HTTPError as error:
        # Azure ML responds with 424 if a container responds with anything but 200, and says with what.
        status = int(error.headers.get(_MODEL_STATUS) or error.code)
        answered, raw = error.headers.get(DEPLOYMENT_HEADER, ""), error.read()
    except (OSError, ValueError, http.client.HTTPException) as error:
        return ScoringResponse(0, time.perf_counter() - started, {}, deployment, str(getattr(error, "reason", error)))
    seconds = time.perf_counter() - started
    body, problem = _content(raw, status)
    return ScoringResponse(status, seconds, body, answered or deployment, problem)


def _content(raw: bytes, status: int) -> tuple[dict[str, Any], str]:
    try:
        body = json.loads(raw)
    except ValueError:
        return {}, raw[:300].decode(errors="replace") or f"HTTP {status} without a body"
    if not isinstance(body, dict):
        return {}, f"HTTP {status} with an unknown body"
    if status == 200:
        return body, "" if body.get("predictions") else "the response contains no predictions"
    error = body.get("error")
    message = error.get("message") if isinstance(error, dict) else error
    return body, str(message or f"HTTP {status}")


@cache
def _trusting(bundle: str) -> ssl.SSLContext:
    """Return a context that verifies certificates, also by the authorities of a file, as the Azure SDK does."""
    context = ssl.create_default_context()
    if bundle:
        context.load_verify_locations(bundle)
    return context
