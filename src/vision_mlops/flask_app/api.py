"""What the pages' JavaScript asks for: answers are JSON, errors too."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, request

from vision_mlops.flask_app.app_errors import AppError
from vision_mlops.flask_app.classification import classify_upload, uploaded
from vision_mlops.flask_app.correction_form import keep_correction
from vision_mlops.flask_app.pages import endpoint_status

api = Blueprint("api", __name__, url_prefix="/api")


@api.post("/classify")
def classify() -> dict[str, Any]:
    """Classify one image, sent as multipart."""
    return classify_upload(uploaded(), explain=_flag("explain"))


@api.get("/status")
def status() -> dict[str, Any]:
    """Return what the status page shows."""
    return endpoint_status()


@api.post("/corrections")
def correct() -> tuple[dict[str, str], int]:
    """Keep a correction; its image and what the response said of it are sent as multipart."""
    return {"id": keep_correction()}, 201


def _flag(name: str) -> bool:
    text = request.form.get(name, request.args.get(name, "")).strip().lower()
    if text not in ("", "true", "false", "1", "0", "on"):
        raise AppError(400, "bad_request", f"{name} must be true or false.")
    return text in ("true", "1", "on")
