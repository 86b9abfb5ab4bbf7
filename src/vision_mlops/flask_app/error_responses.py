"""Responses to errors: a page for people, or JSON below /api."""

from __future__ import annotations

import logging
import uuid

from flask import Flask, jsonify, render_template, request
from flask.typing import ResponseReturnValue
from flask_wtf.csrf import CSRFError
from werkzeug.exceptions import HTTPException

from vision_mlops.flask_app.app_errors import AppError
from vision_mlops.flask_app.frontend import frontend
from vision_mlops.flask_app.pages import retry_header

_LOG = logging.getLogger(__name__)
_MESSAGES = {
    400: ("bad_request", "The request cannot be read."),
    404: ("not_found", "This page does not exist."),
    405: ("method_not_allowed", "This address does not accept such requests."),
}


def answer_errors(app: Flask) -> None:
    """Respond to every error with a page or with JSON."""
    app.register_error_handler(AppError, _answer)
    app.register_error_handler(HTTPException, _of_http)
    app.register_error_handler(Exception, _unexpected)


def _of_http(error: HTTPException) -> ResponseReturnValue:
    status = error.code or 500
    if status < 400 or error.response is not None:
        return error  # a redirection
    if isinstance(error, CSRFError):
        return _answer(AppError(400, "page_expired", "This page has expired: reload it. Cookies must be enabled."))
    if status == 413:
        limit = frontend().settings.max_upload_mb
        return _answer(
            AppError(413, "upload_too_large", f"The upload is larger than {limit:g} MB: choose a smaller image.")
        )
    code, message = _MESSAGES.get(status, ("failed", f"The request was refused (HTTP {status})."))
    return _answer(AppError(status, code, message))


def _unexpected(error: Exception) -> ResponseReturnValue:
    reference = uuid.uuid4().hex[:12]
    _LOG.error("request %s %s failed (%s)", request.method, request.path, reference, exc_info=error)
    return _answer(AppError(500, "internal", f"An internal error occurred; see {reference} in the log of the app."))


def _answer(error: AppError) -> ResponseReturnValue:
    if request.path.startswith("/api/"):
        return jsonify(error=error.to_dict()), error.status, retry_header(error)
    return render_template("error.html", status=error.status, error=error.to_dict()), error.status, retry_header(error)
