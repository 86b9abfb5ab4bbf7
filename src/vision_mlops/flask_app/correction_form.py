"""From the form of a request to a correction that is kept."""

from __future__ import annotations

import logging

from flask import request

from vision_mlops.core.errors import CorrectionsFullError, MlopsError
from vision_mlops.flask_app.app_errors import AppError
from vision_mlops.flask_app.classification import uploaded
from vision_mlops.flask_app.corrections.correction import make_correction
from vision_mlops.flask_app.frontend import frontend, session_id

_LOG = logging.getLogger(__name__)
_LONGEST = 200


def keep_correction() -> str:
    """Keep the correction of the form: ``image``, ``label`` (empty for "none of these"), and what the response said.

    Returns:
        The correction's id.

    Raises:
        AppError: corrections are off, the form is incomplete, the label is no class of the deployed model, what was sent
            is not an image, the store is full, or it cannot be written.
    """
    store = frontend().corrections
    if store is None:
        raise AppError(404, "corrections_off", "Corrections are not collected here.")
    label = _known_class(_text("label"))
    facts = [_text(name) for name in ("predicted", "model_name", "model_version", "model_id", "request_id")]
    upload = uploaded()
    who = frontend().signed_in_as() or f"session {session_id()}"
    correction = make_correction(upload.data, upload.suffix, label, *facts, who=who)
    try:
        store.add(correction, upload.data)
    except CorrectionsFullError as error:
        _LOG.error("%s", error.on_one_line())
        raise AppError(
            413,
            "corrections_full",
            "No more corrections are accepted: their store is full. Tell whoever runs this app.",
        ) from error
    except MlopsError as error:
        _LOG.error("%s", error.on_one_line())
        raise AppError(
            503,
            "corrections_unavailable",
            "The correction could not be stored: the store cannot be reached. Try again later.",
        ) from error
    return correction.id


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
        raise deployed.problem or AppError(
            503, "endpoint_down", "The classes are not known: the endpoint has not responded."
        )
    if label not in deployed.model.classes:
        raise AppError(422, "unknown_label", f"The deployed model has no class {label!r}: reload the page.")
    return label
