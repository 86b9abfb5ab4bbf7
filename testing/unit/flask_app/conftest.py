"""An app in front of an endpoint that answers as a test wishes."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask.testing import FlaskClient
from PIL import Image
from testing.support.odd_endpoint import OddEndpoint, odd_endpoint
from werkzeug.datastructures import FileStorage
from werkzeug.test import encode_multipart

from vision_mlops.flask_app.app import create_app
from vision_mlops.flask_app.app_settings import load_app_settings
from vision_mlops.flask_app.frontend import Frontend

OpenApp = Callable[..., FlaskClient]


def picture(size: tuple[int, int] = (40, 30), kind: str = "PNG", mode: str = "RGB", **options: Any) -> bytes:
    stream = io.BytesIO()
    Image.new(mode, size, 128).save(stream, kind, **options)
    return stream.getvalue()


def form(data: bytes, name: str = "a.png", **more: str) -> dict[str, Any]:
    """Fields of an upload."""
    return {"image": (io.BytesIO(data), name), **more}


def large(data: bytes) -> dict[str, Any]:
    """Arguments of an upload for which the client itself makes no file."""
    boundary, body = encode_multipart({"image": FileStorage(io.BytesIO(data), "a.png")})
    return {"data": body, "content_type": f"multipart/form-data; boundary={boundary}"}


def token(client: FlaskClient, **options: Any) -> str:
    """The CSRF token of a page."""
    found = re.search(r'name="csrf-token" content="([^"]+)"', client.get("/", **options).text)
    assert found is not None
    return found[1]


@pytest.fixture
def endpoint() -> Iterator[OddEndpoint]:
    with odd_endpoint() as endpoint:
        yield endpoint


@pytest.fixture
def open_app(endpoint: OddEndpoint) -> Iterator[OpenApp]:
    """Make an app with settings by their names in capitals, and a browser for it that does not check forms."""
    made: list[Frontend] = []

    def open_one(checks_forms: bool = False, **settings: str) -> FlaskClient:
        known = {"ENDPOINT": endpoint.url, "SECRET_KEY": "of the tests, long", "TIMEOUT_S": "2", **settings}
        app = create_app(load_app_settings({f"MLOPS_APP_{name}": value for name, value in known.items()}))
        app.config["WTF_CSRF_ENABLED"] = checks_forms
        made.append(app.extensions["vision_mlops"])
        return app.test_client()

    yield open_one
    for parts in made:
        parts.endpoint.close()
