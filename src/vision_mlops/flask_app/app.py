"""The web frontend: ``vision_mlops.flask_app.app:create_app()`` for gunicorn, ``mlops app`` for people.

It sends HTTP requests to the scoring endpoint of the settings, and knows of models only what the endpoint tells.
"""

from __future__ import annotations

import io
import logging
import os
import secrets
from collections.abc import Callable
from typing import IO, Any

from flask import Flask, Request

from vision_mlops.core.errors import ConfigError, MlopsError
from vision_mlops.flask_app.api import api
from vision_mlops.flask_app.app_settings import AppSettings, load_app_settings
from vision_mlops.flask_app.brand import load_brand
from vision_mlops.flask_app.corrections.correction_store import CorrectionStore, open_store
from vision_mlops.flask_app.deployed_model import DeployedModel
from vision_mlops.flask_app.error_responses import answer_errors
from vision_mlops.flask_app.frontend import Frontend
from vision_mlops.flask_app.pages import pages
from vision_mlops.flask_app.request_checks import check_requests
from vision_mlops.flask_app.response_headers import add_headers
from vision_mlops.flask_app.scoring_endpoint import ScoringEndpoint
from vision_mlops.flask_app.static_files import serve_static_files

_LOG = logging.getLogger(__name__)
_FORM_BYTES = 64 * 1024


class _MemoryRequest(Request):
    """Keeps uploads in memory, so that no trace of them stays on disk."""

    def _get_file_stream(self, *_: Any, **__: Any) -> IO[bytes]:
        return io.BytesIO()


class _App(Flask):
    request_class = _MemoryRequest


def create_app(settings: AppSettings | None = None) -> Flask:
    """Create the application.

    Args:
        settings: The settings; those of the environment if not given.

    Raises:
        ConfigError: a setting is wrong.
    """
    known = settings or load_app_settings()
    app = _App("vision_mlops.flask_app", static_folder=None)
    app.url_map.strict_slashes = False
    app.config.update(
        SECRET_KEY=_secret_key(known),
        MAX_CONTENT_LENGTH=int(known.max_upload_mb * 2**20) + _FORM_BYTES,
        MAX_FORM_PARTS=20,
    )
    endpoint = ScoringEndpoint(known, _token_provider(known))
    brand = load_brand(known.brand) if known.brand is not None else None
    parts = Frontend(known, endpoint, DeployedModel(endpoint), open_corrections(known), brand)
    parts.install(app)
    check_requests(app, known)
    app.register_blueprint(pages)
    app.register_blueprint(api)
    app.context_processor(parts.context)
    serve_static_files(app, more=brand.files if brand else None)
    answer_errors(app)
    add_headers(app)
    return app


def open_corrections(settings: AppSettings) -> CorrectionStore | None:
    """Open the store of corrections; None if they are off. Raises ConfigError if they cannot be stored there."""
    if not settings.corrections:
        return None
    try:
        return open_store(settings.corrections, int(settings.corrections_limit_mb * 2**20))
    except MlopsError as error:
        raise ConfigError(f"MLOPS_APP_CORRECTIONS: {error.message}", error.hint) from error


def _token_provider(settings: AppSettings) -> Callable[[], str] | None:
    if settings.auth != "identity":
        return None
    from vision_mlops.azure.clients import scoring_token_provider

    return scoring_token_provider(os.environ)


def _secret_key(settings: AppSettings) -> str:
    given = settings.secret_key.get_secret_value()
    if not given:
        _LOG.warning("MLOPS_APP_SECRET_KEY is not set: sessions end with this process")
    return given or secrets.token_hex(32)
