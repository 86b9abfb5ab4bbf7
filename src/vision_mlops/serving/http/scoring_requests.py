"""Reads scoring requests: raw image bytes, multipart forms or JSON with base64, and the errors each can have.

Free of any web framework: the scoring server and the entry script for Azure ML's own server read the same way.
"""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, unquote

from vision_mlops.config.workload import Serving
from vision_mlops.serving.http.content_codings import CodingError, decode_body
from vision_mlops.serving.http.http_messages import HeaderList
from vision_mlops.serving.http.multipart_forms import Form, FormError, read_form

_YES, _NO = ("true", "1", "yes", "on"), ("false", "0", "no", "off")
_CHARSET = re.compile(r"(?i);\s*charset\s*=\s*\"?([A-Za-z0-9._:-]+)")
_CHARSETS = frozenset(
    (
        "utf-8",
        "utf8",
        "utf-16",
        "utf-16le",
        "utf-16be",
        "utf-32",
        "us-ascii",
        "ascii",
        "iso-8859-1",
        "latin1",
        "windows-1252",
    )
)
"""Python knows more; some of them take minutes for a megabyte, and it remembers each name that it was ever asked for."""


class RequestError(Exception):
    """A request that is answered with an error: HTTP status, code and message, and headers of its own."""

    def __init__(self, status: int, code: str, message: str, headers: HeaderList = ()) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.headers = headers


@dataclass(frozen=True, slots=True)
class ScoringRequest:
    """What is to be scored. ``batch`` tells the list form, whose answer is a list also for one image."""

    images: list[bytes]
    batch: bool
    top_k: int
    explain: bool


def read_scoring_request(
    content_type: str, query: str, body: bytes, *, serving: Serving, classes: int, content_encoding: str = ""
) -> ScoringRequest:
    """Parse query and body.

    ``top_k`` and ``explain`` stand in the query, or beside the image in a form or in JSON; the query counts more.

    Args:
        content_type: Value of that header; may be empty.
        query: What stands behind the question mark, percent-encoded. Keys that are not known are ignored.
        body: All bytes of the body.
        serving: Limits.
        classes: How many the model has.
        content_encoding: Value of that header; may be empty.

    Raises:
        RequestError: 400 malformed, 413 too large, 415 unknown type or encoding, 422 a value out of range.
    """
    options: dict[str, Any] = _read_query(query) if query else {}
    if len(body) > serving.max_body_mb * 2**20:
        raise RequestError(413, "body_too_large", f"the body is larger than {serving.max_body_mb} MB")
    if content_encoding:
        body = unpacked(body, content_encoding, serving)
    kind = content_type.partition(";")[0].strip().lower()
    if not kind:  # a client that does not say what it sends
        kind = "application/json" if body[:64].lstrip().startswith((b"{", b"[")) else "application/octet-stream"
    if kind.startswith("image/") or kind == "application/octet-stream":
        images, batch = [body], False
    elif kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json")):
        images, batch, beside = _from_json(body, content_type)
        options = {**beside, **options}
    elif kind == "multipart/form-data":
        form = _from_form(content_type, body, serving.max_batch)
        images, batch = form.files, len(form.files) > 1
        options = {**form.fields, **options}
    else:
        raise RequestError(
            415,
            "unsupported_media_type",
            f"content type {kind[:100]!r} is not supported: send image/*, multipart/form-data or application/json",
        )
    if not images or not all(images):
        raise RequestError(400, "empty", "the request holds no image bytes")
    if len(images) > serving.max_batch:
        raise _too_many(str(len(images)), serving.max_batch)
    return ScoringRequest(images, batch, _top_k(options.get("top_k"), classes), _flag(options.get("explain")))


def unpacked(body: bytes, content_encoding: str, serving: Serving) -> bytes:
    """A body without its Content-Encoding. Raises RequestError: 400 damaged, 413 too large, 415 another encoding."""
    try:
        return decode_body(body, content_encoding, serving.max_body_mb * 2**20)
    except CodingError as error:
        raise RequestError(error.status, error.code, error.message, error.headers) from error


def _too_many(count: str, limit: int) -> RequestError:
    return RequestError(422, "batch_too_large", f"{count} images in a request; the limit is {limit}")


def _read_query(query: str) -> dict[str, str]:
    """Values of a query; of a repeated key the last, as most frameworks take it."""
    try:
        return dict(parse_qsl(query, keep_blank_values=True, max_num_fields=100))
    except ValueError as error:
        raise RequestError(422, "bad_query", f"the query cannot be read: {error}") from error


def _top_k(value: Any, classes: int) -> int:
    if value is None:
        return min(5, classes)
    text = str(value).strip() if isinstance(value, int | str) and not isinstance(value, bool) else ""
    if not (text.isascii() and text.isdigit()) or len(text) > 9 or not 1 <= int(text) <= classes:
        raise RequestError(422, "bad_query", f"top_k must be a whole number from 1 to {classes}, not {_shown(value)}")
    return int(text)


def _flag(value: Any) -> bool:
    text = str(value).strip().lower() if isinstance(value, bool | int | str) else ""
    if value is None or text in _NO:
        return False
    if text not in _YES:
        raise RequestError(422, "bad_query", f"explain must be true or false, not {_shown(value)}")
    return True


def _shown(value: Any) -> str:
    """A value for a message; a list may be nested too deeply to be written."""
    return repr(value[:40]) if isinstance(value, str) else f"a JSON {type(value).__name__}"


def _from_json(body: bytes, content_type: str) -> tuple[list[bytes], bool, dict[str, Any]]:
    """Images, whether they came as a list, and the options beside them."""
    content = read_json(body, content_type)
    if isinstance(content, dict):
        options = {name: content[name] for name in ("top_k", "explain") if name in content}
        image, texts = content.get("image"), content.get("images")
        if isinstance(image, str):
            return [_base64(image)], False, options
        if isinstance(texts, list) and all(isinstance(text, str) for text in texts):
            return [_base64(text) for text in texts], True, options
    raise RequestError(400, "bad_json", 'JSON must be {"image": BASE64} or {"images": [BASE64, ...]}')


def read_json(body: bytes, content_type: str) -> Any:
    """What a JSON body says: UTF-8, -16 or -32, with or without a byte order mark, or in the charset that is named.

    Raises:
        RequestError: 400 malformed, 415 another charset.
    """
    try:
        named = _CHARSET.search(content_type)
        charset = named[1].lower() if named is not None else "utf-8"
        if charset not in _CHARSETS:
            message = f"charset {charset[:40]!r} is not supported: send JSON in UTF-8"
            raise RequestError(415, "unsupported_charset", message)
        return json.loads(body if charset.startswith("utf") else body.decode(charset))
    except (ValueError, RecursionError) as error:
        raise RequestError(400, "bad_json", f"the body is not valid JSON: {error}") from error


def _base64(text: str) -> bytes:
    """An image of a JSON string: also as a data URL, in lines, with the URL-safe alphabet or without padding."""
    if text[:5].lower() == "data:":
        head, comma, text = text.partition(",")
        if not comma or not head.lower().endswith(";base64"):
            raise RequestError(400, "bad_base64", "a data URL must be of the form data:image/jpeg;base64,...")
        text = unquote(text) if "%" in text else text
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        pass  # it may be base64 as other encoders write it
    text = "".join(line.strip() for line in text.split("\n")).rstrip("=")
    if not ("+" in text or "/" in text):
        text = text.replace("-", "+").replace("_", "/")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except ValueError as error:
        hint = "; were plus signs made blanks?" if " " in text else ""
        raise RequestError(400, "bad_base64", f"an image is not valid base64: {error}{hint}") from error


def _from_form(content_type: str, body: bytes, limit: int) -> Form:
    try:
        form = read_form(content_type, body, limit)
    except FormError as error:
        raise RequestError(400, "bad_form", f"the form cannot be read: {error}") from error
    if len(form.files) > limit:
        raise _too_many(f"more than {limit}", limit)
    if not form.files and form.fields:
        names = ", ".join(list(form.fields)[:5])
        raise RequestError(400, "bad_form", f"the form has the plain field {names} but no file: give it a file name")
    return form
