"""What keeps strangers, other sites and bombs away."""

from __future__ import annotations

import io
import json
import logging
import re
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest
from testing.support.odd_endpoint import OddAnswer, OddEndpoint
from testing.unit.flask_app.conftest import OpenApp, form, large, picture, token

PAGES = ["/", "/history", "/model", "/status", "/use", "/nothing", "/health", "/api/status", "/api/nothing"]
HTTPS = {"base_url": "https://localhost"}


@pytest.mark.parametrize("path", PAGES)
def test_every_response_has_the_headers(open_app: OpenApp, path: str) -> None:
    headers = open_app().get(path).headers
    policy = dict(part.split(" ", 1) for part in headers["Content-Security-Policy"].split("; "))
    assert policy["default-src"] == policy["base-uri"] == policy["frame-ancestors"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == policy["form-action"] == "'self'"
    assert "unsafe" not in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "same-origin"
    assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert "camera=(self)" in headers["Permissions-Policy"]
    assert "Strict-Transport-Security" not in headers
    assert headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("path", PAGES[:6])
def test_no_page_has_anything_inline(open_app: OpenApp, path: str) -> None:
    text = open_app().get(path).text
    assert not re.search(r"<script(?![^>]*\bsrc=)[^>]*>", text)
    assert not re.search(r"<style|\sstyle=|\son[a-z]+=|javascript:", text)
    assert not re.search(r"(src|href)=\"(https?:)?//", text), "it must work offline"


def test_the_cookie_is_bound_to_the_host_where_there_is_tls(open_app: OpenApp) -> None:
    response = open_app().get("/", **HTTPS)
    cookie = response.headers["Set-Cookie"]
    assert cookie.startswith("__Host-session=")
    assert {"Secure", "HttpOnly", "Path=/", "SameSite=Lax"} <= set(cookie.split("; "))
    assert "Domain" not in cookie
    assert response.headers["Strict-Transport-Security"] == "max-age=31536000"
    plain = open_app().get("/").headers["Set-Cookie"]
    assert plain.startswith("session=")
    assert {"HttpOnly", "SameSite=Lax"} <= set(plain.split("; "))
    assert "Secure" not in plain


@pytest.mark.parametrize("path", ["/model", "/status", "/use", "/favicon.ico", "/nothing", "/health"])
def test_only_pages_with_forms_begin_a_session(open_app: OpenApp, path: str) -> None:
    """A browser asks for an icon while it loads a page: a session begun for that would end the one of the page."""
    assert "Set-Cookie" not in open_app(checks_forms=True).get(path).headers


@pytest.mark.parametrize("options", [{}, HTTPS], ids=["http", "https"])
def test_forms_need_the_token_of_a_page(open_app: OpenApp, endpoint: OddEndpoint, options: Any) -> None:
    client = open_app(checks_forms=True)
    given = token(client, **options)
    refused = client.post("/api/classify", data=form(picture()), **options)
    assert (refused.status_code, refused.json["error"]["code"]) == (400, "page_expired")  # type: ignore[index]
    assert client.post("/", data=form(picture()), **options).status_code == 400
    assert endpoint.images == []
    headers = {"X-CSRFToken": given}
    assert client.post("/api/classify", data=form(picture()), headers=headers, **options).status_code == 200
    assert client.post("/", data=form(picture(), csrf_token=given), **options).status_code == 200
    stranger = open_app(checks_forms=True)
    stranger.get("/", **options)
    assert stranger.post("/api/classify", data=form(picture()), headers=headers, **options).status_code == 400


def test_a_client_that_sends_too_many_images_is_told_when_to_go_on(open_app: OpenApp, endpoint: OddEndpoint) -> None:
    client = open_app(RATE_LIMIT="2 per hour")
    assert client.post("/api/classify", data=form(picture())).status_code == 200
    assert client.post("/", data=form(picture())).status_code == 200
    refused = client.post("/api/classify", data=form(picture()))
    assert (refused.status_code, refused.json["error"]["code"]) == (429, "too_many_requests")  # type: ignore[index]
    assert 1 <= int(refused.headers["Retry-After"]) <= 3600
    assert "2 per hour" in refused.text
    assert len(endpoint.images) == 2
    assert client.get("/").status_code == 200
    elsewhere = client.post("/api/classify", data=form(picture()), environ_base={"REMOTE_ADDR": "10.0.0.9"})
    assert elsewhere.status_code == 200


def test_any_number_may_be_allowed(open_app: OpenApp) -> None:
    client = open_app(RATE_LIMIT="none")
    assert {client.post("/api/classify", data={}).status_code for _ in range(310)} == {400}


FORWARDED = {"X-Forwarded-For": "10.0.0.7", "X-Forwarded-Proto": "https", "X-Forwarded-Host": "evil.example"}


def test_headers_of_proxies_count_only_where_one_is_trusted(open_app: OpenApp) -> None:
    client = open_app(RATE_LIMIT="1 per hour")
    assert "Secure" not in client.get("/", headers=FORWARDED).headers["Set-Cookie"]
    assert client.post("/api/classify", data=form(picture()), headers=FORWARDED).status_code == 200
    other = FORWARDED | {"X-Forwarded-For": "10.0.0.8"}
    assert client.post("/api/classify", data=form(picture()), headers=other).status_code == 429
    behind = open_app(RATE_LIMIT="1 per hour", TRUST_PROXY="1", HOSTS="localhost")
    assert "Secure" in behind.get("/", headers=FORWARDED).headers["Set-Cookie"]
    for headers in (FORWARDED, other):
        assert behind.post("/api/classify", data=form(picture()), headers=headers).status_code == 200
    spoofed = FORWARDED | {"X-Forwarded-For": "10.9.9.9, 10.0.0.7"}
    assert behind.post("/api/classify", data=form(picture()), headers=spoofed).status_code == 429


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example:80", "[::2]", ""])
def test_another_host_is_refused(open_app: OpenApp, host: str) -> None:
    client = open_app(HOSTS="localhost,127.0.0.1,::1")
    assert client.get("/", headers={"Host": host}).status_code == 400
    refused = client.get("/api/status", headers={"Host": host})
    assert (refused.status_code, refused.json["error"]["code"]) == (400, "unknown_host")  # type: ignore[index]
    assert client.get("/health", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8080", "127.0.0.1:1", "[::1]:8080", "[::1]"])
def test_a_known_host_is_answered(open_app: OpenApp, host: str) -> None:
    assert open_app(HOSTS="localhost,127.0.0.1,::1").get("/", headers={"Host": host}).status_code == 200


def test_the_host_of_a_request_is_nowhere_on_a_page(open_app: OpenApp) -> None:
    client = open_app()
    for path in PAGES[:6]:
        assert "evil.example" not in client.get(path, headers={"Host": "evil.example"}).text


@pytest.mark.parametrize(("trusted", "shown"), [("false", False), ("true", True)])
def test_who_has_signed_in_is_believed_only_where_configured(open_app: OpenApp, trusted: str, shown: bool) -> None:
    client = open_app(TRUST_SIGN_IN=trusted)
    page = client.get("/", headers={"X-MS-CLIENT-PRINCIPAL-NAME": "ada@<b>example.com"}).text
    assert ("ada@&lt;b&gt;example.com" in page) is shown
    assert "<b>example" not in page


def bomb(width: int, height: int) -> bytes:
    """The head of a PNG of that size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


REFUSED: dict[str, tuple[bytes, int, str]] = {
    "empty": (b"", 400, "empty"),
    "text": (b"hello", 415, "not_an_image"),
    "page": (b"<!doctype html><script>alert(1)</script>", 415, "not_an_image"),
    "drawing": (b'<svg xmlns="http://www.w3.org/2000/svg"/>', 415, "not_an_image"),
    "document": (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3", 415, "not_an_image"),
    "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", 415, "not_an_image"),
    "program": (b"\x7fELF" + bytes(100), 415, "not_an_image"),
    "icon": (b"\0\0\1\0\1\0\x10\x10\0\0\1\0\x20\0" + bytes(100), 415, "not_an_image"),
    "only the head": (b"\x89PNG\r\n\x1a\n", 415, "not_an_image"),
    "many pixels": (bomb(9_000, 9_000), 413, "too_many_pixels"),
    "more than Pillow likes": (bomb(12_000, 12_000), 413, "too_many_pixels"),
    "a bomb": (bomb(60_000, 60_000), 413, "too_many_pixels"),
}


@pytest.mark.parametrize(("data", "status", "code"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_image_or_too_much_of_one_never_reaches_the_endpoint(
    open_app: OpenApp, endpoint: OddEndpoint, data: bytes, status: int, code: str
) -> None:
    client = open_app()
    refused = client.post("/api/classify", data=form(data, "photo.jpg"))
    assert (refused.status_code, refused.json["error"]["code"]) == (status, code)  # type: ignore[index]
    page = client.post("/", data=form(data, "photo.jpg"))
    assert page.status_code == status
    assert refused.json["error"]["message"] in page.text  # type: ignore[index]
    assert endpoint.images == []


FORMS: dict[str, tuple[Any, str]] = {
    "nothing": ({}, "no_image"),
    "text in its place": ({"image": "hello"}, "no_image"),
    "no file chosen": ({"image": (io.BytesIO(b""), "")}, "no_image"),
    "two": ({"image": [(io.BytesIO(picture()), "a.png"), (io.BytesIO(picture()), "b.png")]}, "too_many_images"),
    "explain": (form(picture(), explain="perhaps"), "bad_request"),
}


@pytest.mark.parametrize(("data", "code"), FORMS.values(), ids=FORMS)
def test_a_form_of_another_shape_is_refused(open_app: OpenApp, endpoint: OddEndpoint, data: Any, code: str) -> None:
    refused = open_app().post("/api/classify", data=data, content_type="multipart/form-data")
    assert (refused.status_code, refused.json["error"]["code"]) == (400, code)  # type: ignore[index]
    assert endpoint.images == []


def test_an_upload_beyond_the_limit_is_refused_unread(open_app: OpenApp, endpoint: OddEndpoint) -> None:
    client = open_app(MAX_UPLOAD_MB="0.5", checks_forms=True)
    refused = client.post("/api/classify", **large(bytes(2**20)))
    assert (refused.status_code, refused.json["error"]["code"]) == (413, "upload_too_large")  # type: ignore[index]
    assert "0.5 MB" in client.post("/", **large(bytes(2**20))).text
    assert endpoint.images == []


@pytest.mark.parametrize("name", ["../../etc/passwd", "..%2f..%2fapp.py", ".hidden", "none.jpg", "%00", "secret.txt"])
def test_no_file_but_the_samples_is_served(open_app: OpenApp, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "samples"
    folder.mkdir()
    (folder / "a.png").write_bytes(picture())
    (folder / "secret.txt").write_text("secret")
    (tmp_path / "app.py").write_text("secret")
    client = open_app(SAMPLES=str(folder))
    assert client.get(f"/samples/{name}").status_code == 404
    assert client.get("/samples/a.png", buffered=True).data == picture()


def test_an_upload_leaves_no_file(open_app: OpenApp, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("an image is written to the disk")

    monkeypatch.setattr("werkzeug.formparser.SpooledTemporaryFile", refuse)
    assert open_app().post("/api/classify", **large(picture((900, 900), "BMP"))).status_code == 200


KEY = "the-key-of-the-endpoint"


@pytest.mark.parametrize("answer", [OddAnswer(401, b""), OddAnswer(500, b""), OddAnswer(hang_up=True), None])
def test_the_key_of_the_endpoint_is_on_no_page_and_in_no_log(
    open_app: OpenApp, endpoint: OddEndpoint, caplog: pytest.LogCaptureFixture, answer: OddAnswer | None
) -> None:
    caplog.set_level(logging.DEBUG)
    endpoint.key = KEY
    if answer is not None:
        endpoint.always = endpoint.description = answer
    client = open_app(ENDPOINT_KEY=KEY)
    seen = [client.get(path) for path in PAGES]
    seen += [client.post(path, data=form(picture())) for path in ("/", "/api/classify")]
    assert endpoint.images[0].headers["Authorization"] == f"Bearer {KEY}"
    assert KEY not in "".join(response.text + str(response.headers) for response in seen)
    assert KEY not in caplog.text


def test_errors_are_json_for_programs_and_pages_for_people(open_app: OpenApp) -> None:
    client = open_app()
    for path in ("/api/nothing", "/api/classify"):
        assert set(json.loads(client.get(path).text)["error"]) == {"code", "message"}
    page = client.get("/nothing")
    assert (page.status_code, page.mimetype) == (404, "text/html")
    assert "This page does not exist" in page.text


def test_an_error_of_ours_is_logged_and_its_details_are_not_shown(
    open_app: OpenApp, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any) -> None:
        raise ZeroDivisionError("secret detail")

    monkeypatch.setattr("vision_mlops.flask_app.classification.read_upload", fail)
    response = open_app().post("/api/classify", data=form(picture()))
    assert (response.status_code, response.json["error"]["code"]) == (500, "internal")  # type: ignore[index]
    assert "secret detail" not in response.text
    reference = response.json["error"]["message"].rstrip(".").split()[-1]  # type: ignore[index]
    assert reference in caplog.text
    assert "secret detail" in caplog.text


@pytest.mark.parametrize(
    ("first", "again", "other"),
    [
        ("203.0.113.5:1234", "203.0.113.5:1235", "203.0.113.6:1234"),
        ("[2001:db8::1]:1234", "[2001:db8::1]:1235", "[2001:db8::2]:1234"),
        ("2001:db8::1", "2001:db8::1", "2001:db8::2"),
    ],
)
def test_the_limit_is_of_an_address_whatever_its_port(open_app: OpenApp, first: str, again: str, other: str) -> None:
    client = open_app(RATE_LIMIT="1 per hour", TRUST_PROXY="1")
    statuses = [
        client.post("/api/classify", data=form(picture()), headers={"X-Forwarded-For": address}).status_code
        for address in (first, again, other)
    ]
    assert [status == 429 for status in statuses] == [False, True, False]
