"""``POST /api/corrections``: what is kept of a form, and what is refused with which words."""

from __future__ import annotations

import io
import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from PIL import Image
from werkzeug.test import TestResponse

from vision_mlops.flask_app.app import create_app
from vision_mlops.flask_app.app_settings import AppSettings
from vision_mlops.flask_app.corrections.correction import Correction
from vision_mlops.flask_app.corrections.correction_store import open_store

CLASSES = ["cat", "dog", "grün & <b>"]
DESCRIPTION = {
    "model": {"name": "pets", "version": "3", "id": "abc", "classes": CLASSES},
    "limits": {"body_bytes": 10**7, "images": 8},
    "request_id": "r",
}
FACTS = {"predicted": "dog", "model_name": "pets", "model_version": "3", "model_id": "abc", "request_id": "r-1"}


class _Scoring(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        body = json.dumps(DESCRIPTION).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """An endpoint that only describes its model."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Scoring) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/score"
        server.shutdown()
        thread.join()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "corrections"


class Browser:
    """A browser's session with an app, with its cookie and its token."""

    def __init__(self, **settings: Any) -> None:
        self.client: FlaskClient = create_app(AppSettings(secret_key="0123456789abcdef", **settings)).test_client()
        found = re.search(r'name="csrf-token" content="([^"]+)"', self.client.get("/").text)
        assert found
        self.token = found[1]

    def send(
        self,
        image: bytes | None,
        label: str | None = "cat",
        headers: dict[str, str] | None = None,
        **changes: str | None,
    ) -> TestResponse:
        fields = {**FACTS, "label": label, **changes}
        data: dict[str, Any] = {name: text for name, text in fields.items() if text is not None}
        if image is not None:
            data["image"] = (io.BytesIO(image), "../../evil.php")
        response: TestResponse = self.client.post(
            "/api/corrections", data=data, headers={"X-CSRFToken": self.token, **(headers or {})}
        )
        return response


@pytest.fixture
def browser(endpoint: str, folder: Path) -> Browser:
    return Browser(endpoint=endpoint, corrections=str(folder), max_upload_mb=0.2)


def picture(kind: str = "PNG", colour: str = "red") -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (20, 10), colour).save(stream, kind)
    return stream.getvalue()


def kept(folder: Path) -> list[Correction]:
    return list(open_store(str(folder)).list())


def refused(response: TestResponse) -> tuple[int, str, str]:
    error = response.get_json()["error"]
    return response.status_code, error["code"], error["message"]


@pytest.mark.parametrize(
    ("label", "kind", "suffix"), [("cat", "PNG", ".png"), ("grün & <b>", "JPEG", ".jpg"), ("", "WEBP", ".webp")]
)
def test_what_is_kept(browser: Browser, folder: Path, label: str, kind: str, suffix: str) -> None:
    image = picture(kind)
    response = browser.send(image, label)
    (correction,) = kept(folder)
    assert (response.status_code, response.get_json()) == (201, {"id": correction.id})
    assert open_store(str(folder)).image(correction) == image, "as it was received"
    assert (correction.label, correction.suffix) == (label or None, suffix)
    assert {name: getattr(correction, name) for name in FACTS} == FACTS
    assert re.fullmatch(r"session [0-9a-f]{32}", correction.who)
    assert {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} == {
        "corrections.db", f"images/{correction.image_name}"
    }  # fmt: skip


def test_sent_twice_it_is_one_and_two_browsers_are_two_people(browser: Browser, endpoint: str, folder: Path) -> None:
    ids = [browser.send(picture()).get_json()["id"] for _ in range(2)]
    other = Browser(endpoint=endpoint, corrections=str(folder)).send(picture()).get_json()["id"]
    assert ids[0] == ids[1] != other
    assert {item.id for item in kept(folder)} == {ids[0], other}
    assert len({item.who for item in kept(folder)}) == 2


@pytest.mark.parametrize(("trusted", "who"), [(True, r"ann@example\.org"), (False, "session .*")])
def test_a_name_counts_where_the_sign_in_is_trusted(endpoint: str, folder: Path, trusted: bool, who: str) -> None:
    browser = Browser(endpoint=endpoint, corrections=str(folder), trust_sign_in=trusted)
    browser.send(picture(), headers={"X-MS-CLIENT-PRINCIPAL-NAME": "ann@example.org"})
    assert re.fullmatch(who, kept(folder)[0].who)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"label": "cow"}, (422, "unknown_label", "no class 'cow'")),
        ({"label": "Cat"}, (422, "unknown_label", "no class 'Cat'")),
        ({"label": "../../x"}, (422, "unknown_label", "no class")),
        ({"label": None}, (400, "bad_request", "The field label is missing")),
        ({"request_id": None}, (400, "bad_request", "The field request_id is missing")),
        ({"predicted": "x" * 201}, (422, "too_long", "The field predicted is longer than 200")),
        ({"image": None}, (400, "no_image", "No image was sent")),
        ({"image": b""}, (400, "empty", "empty")),
        ({"image": b"<?php evil(); ?>"}, (415, "not_an_image", "not an image")),
        ({"image": b"<svg xmlns='http://www.w3.org/2000/svg'/>"}, (415, "not_an_image", "not an image")),
        ({"image": b"\x89PNG" + b"x" * 400_000}, (413, "upload_too_large", "larger than 0.2 MB")),
    ],
)  # fmt: skip
def test_what_is_refused_leaves_nothing(
    browser: Browser, folder: Path, changes: dict[str, Any], expected: tuple[int, str, str]
) -> None:
    status, code, message = refused(browser.send(**{"image": picture(), **changes}))
    assert (status, code) == expected[:2]
    assert expected[2] in message
    assert not folder.exists()


def test_it_is_off_by_default(endpoint: str, tmp_path: Path) -> None:
    browser = Browser(endpoint=endpoint)
    assert refused(browser.send(picture())) == (404, "corrections_off", "Corrections are not collected here.")
    assert list(tmp_path.iterdir()) == []


def test_without_the_token_of_the_session_it_is_refused(browser: Browser, folder: Path) -> None:
    assert refused(browser.send(picture(), headers={"X-CSRFToken": ""}))[:2] == (400, "page_expired")
    assert not folder.exists()


def test_a_full_place_is_said(endpoint: str, folder: Path) -> None:
    browser = Browser(endpoint=endpoint, corrections=str(folder), corrections_limit_mb=0.001)
    status, code, message = refused(browser.send(picture()))
    assert (status, code) == (413, "corrections_full")
    assert "their store is full" in message
    assert str(folder) not in message, "strangers need not know where it is"


def test_a_place_that_cannot_be_written_is_said(endpoint: str, folder: Path) -> None:
    browser = Browser(endpoint=endpoint, corrections=str(folder))
    folder.write_bytes(b"a file, made while the app runs")
    status, code, message = refused(browser.send(picture()))
    assert (status, code) == (503, "corrections_unavailable")
    assert str(folder) not in message
    assert browser.client.get("/health").status_code == 200


@pytest.mark.slow
def test_where_the_classes_are_not_known_none_is_taken(folder: Path) -> None:
    browser = Browser(endpoint="http://127.0.0.1:9/score", corrections=str(folder))
    assert refused(browser.send(picture()))[:2] == (503, "endpoint_down")
    assert browser.send(picture(), "").status_code == 201, "that it is none of them is no class"
