"""The pages: classify, history, model, status, use of the API, and the images of the gallery."""

from __future__ import annotations

import contextlib
import os
import time
from functools import lru_cache
from pathlib import Path
from typing import Any

from flask import Blueprint, abort, render_template, request, send_file
from werkzeug.wrappers import Response

from vision_mlops.flask_app.app_errors import AppError
from vision_mlops.flask_app.classification import classify_upload, uploaded
from vision_mlops.flask_app.frontend import frontend
from vision_mlops.flask_app.request_checks import HEALTH
from vision_mlops.flask_app.scoring_endpoint import UNDESCRIBED
from vision_mlops.flask_app.uploads import preview, thumbnail

pages = Blueprint("pages", __name__)
_SOON_S = 2.0
"""How old a description may be on the pages that are about it."""
_THUMBNAIL_EDGE = 144


@pages.get("/", endpoint="classify", defaults={"page": "classify"})
@pages.get("/history", endpoint="history", defaults={"page": "history"})
@pages.get("/use", endpoint="use", defaults={"page": "use"})
def plain_page(page: str) -> str:
    """Show a page of what every page knows: to classify images, what this browser has classified, or use of the API."""
    return render_template(f"{page}.html")


@pages.post("/")
def classify_form() -> tuple[str, int, dict[str, str]]:
    """Show the same page with a result, for browsers without JavaScript."""
    values: dict[str, Any] = {}
    status, headers = 200, {}
    try:
        upload = uploaded()
        values["file_name"] = request.files["image"].filename
        with contextlib.suppress(AppError):  # the endpoint says what is wrong with it, if it cannot read it either
            values["preview"] = preview(upload)
        values["result"] = classify_upload(upload, explain=True)
    except AppError as error:
        values["error"], status = error.to_dict(), error.status
        headers = retry_header(error)
    return render_template("classify.html", **values), status, headers


@pages.get("/model")
def model() -> str:
    """Show what is deployed now."""
    frontend().deployed.get(_SOON_S)
    return render_template("model.html")


@pages.get("/status")
def status() -> str:
    """Show whether the endpoint responds, and how fast it was."""
    known = endpoint_status()
    latencies = [item._asdict() for item in frontend().endpoint.latencies.recent()]
    return render_template("status.html", **known, latencies=latencies, now=time.time())


@pages.get("/samples/<name>")
def sample(name: str) -> Response:
    """Send an image of the gallery."""
    path = frontend().samples().get(name)
    if path is None:
        abort(404)
    return send_file(path.absolute(), max_age=3600)


@pages.get("/samples/<name>/thumbnail")
def sample_thumbnail(name: str) -> Response:
    """Send an image of the gallery as a small square: a page shows several, and is to load quickly."""
    path = frontend().samples().get(name)
    if path is None:
        abort(404)
    response = Response(_thumbnail_bytes(path, path.stat().st_mtime_ns), mimetype="image/webp")
    response.cache_control.max_age = 3600
    return response


@lru_cache(maxsize=64)
def _thumbnail_bytes(path: Path, changed: int) -> bytes:
    return thumbnail(path.read_bytes(), _THUMBNAIL_EDGE)


@pages.get(HEALTH)
def health() -> dict[str, str]:
    """Report that the app is alive. The endpoint is not asked: its outage must not remove every instance of the app.

    ``release`` is what `mlops app deploy` has called this version, so that it sees which one answers.
    """
    return {"status": "ok", "release": os.environ.get("MLOPS_RELEASE", "")}


def endpoint_status() -> dict[str, Any]:
    """Return whether the endpoint responds now, and how fast it was over the last minutes."""
    parts = frontend()
    known = parts.deployed.get(_SOON_S)
    return {
        "alive": known.problem is None or known.problem.code == UNDESCRIBED,
        "problem": known.problem.to_dict() if known.problem else None,
        "model": known.model.model_dump(include={"name", "version", "id"}) if known.model else None,
        "circuit": parts.endpoint.breaker.state,
        "summary": parts.endpoint.latencies.summary(),
    }


def retry_header(error: AppError) -> dict[str, str]:
    """Return the header Retry-After, if it is known when another attempt makes sense."""
    return {} if error.retry_after_s is None else {"Retry-After": f"{max(1, round(error.retry_after_s))}"}
