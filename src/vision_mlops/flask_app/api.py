"""The routes that the pages' JavaScript calls: classification, status and corrections. Responses are JSON, errors too."""

from __future__ import annotations

import logging
from typing import Any

from flask import Blueprint, request

from vision_mlops.core.errors import CorrectionsFullError, MlopsError
from vision_mlops.flask_app.app_errors import AppError
from vision_mlops.flask_app.classification import classify_upload, uploaded
from vision_mlops.flask_app.corrections.correction import make_correction
from vision_mlops.flask_app.frontend import frontend, session_id
from vision_mlops.flask_app.pages import endpoint_status

api = Blueprint("api", __name__, url_prefix="/api")
_LOG = logging.getLogger(__name__)
_LONGEST = 200


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
    """Keep the correction of a multipart form: ``image``, ``label`` (empty for "none of these"), and the response's facts.

    Raises:
        AppError: corrections are off, the form is incomplete, the label is no class of the deployed model, what was sent
            is not an image, the store is full, or it cannot be written.
    """
    store = frontend().corrections
    if store is None:
        raise AppError(404, "corrections_off", "Corrections are not collected here.")
    label = _known_class(_text("label"))
    names = ("predicted", "model_name", "model_version", "model_id", "request_id")
    facts: dict[str, Any] = {name: _text(name) for name in names}
    upload = uploaded()
    who = frontend().signed_in_as() or f"session {session_id()}"
    correction = make_correction(upload.data, suffix=upload.suffix, label=label, who=who, **facts)
    try:
        store.add(correction, upload.data)
    except MlopsError as error:
        _LOG.error("%s", error.on_one_line())
        if isinstance(error, CorrectionsFullError):
            message = "No more corrections are accepted: their store is full. Tell whoever runs this app."
            raise AppError(413, "corrections_full", message) from error
        message = "The correction could not be stored: the store cannot be reached. Try again later."
        raise AppError(503, "corrections_unavailable", message) from error
    return {"id": correction.id}, 201


def _flag(name: str) -> bool:
    text = request.form.get(name, request.args.get(name, "")).strip().lower()
    if text not in ("", "true", "false", "1", "0", "on"):
        raise AppError(400, "bad_request", f"{name} must be true or false.")
    return text in ("true", "1", "on")


def _text(name: str) -> str:
    """Return a field of the form, which must be there."""
    text: str | None = request.form.get(name)
    if text is None:
        raise AppError(400, "bad_request", f"The field {name} is missing.")
    if len(text) > _LONGEST:
        raise AppError(422, "too_long", f"The field {name} is longer than {_LONGEST} characters.")
    return text


def _known_class(label: str) -> str | None:
    """Return a class of the deployed model; None for "none of these"."""
    if not label:
        return None
    deployed = frontend().deployed.get()
    if deployed.model is None:
        problem = AppError(503, "endpoint_down", "The classes are not known: the endpoint has not responded.")
        raise deployed.problem or problem
    if label not in deployed.model.classes:
        raise AppError(422, "unknown_label", f"The deployed model has no class {label!r}: reload the page.")
    return label
