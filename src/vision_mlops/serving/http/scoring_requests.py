"""Reads scoring requests: raw image bytes, multipart forms or JSON with base64, and the errors each can have.

Free of any web framework: the scoring server and the entry script for Azure ML's own server read the same way.
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass
from urllib.parse import parse_qsl

from vision_mlops.config.workload import Serving
from vision_mlops.serving.http.multipart_forms import FormError, read_files

HeaderList = tuple[tuple[bytes, bytes], ...]


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
    content_type: str, query: str, body: bytes, *, serving: Serving, classes: int
) -> ScoringRequest:
    """Parse query and body.

    Args:
        content_type: Value of that header; may be empty.
        query: What stands behind the question mark, percent-encoded. Keys that are not known are ignored.
        body: All bytes of the body.
        serving: Limits.
        classes: How many the model has.

    Raises:
        RequestError: 400 malformed, 413 too large, 415 unknown type, 422 a value out of range.
    """
    top_k, explain = (min(5, classes), False) if not query else _read_query(query, classes)
    limit = serving.max_body_mb
    if len(body) > limit * 2**20:
        raise RequestError(413, "body_too_large", f"the body is larger than {limit} MB")
    kind = content_type.partition(";")[0].strip().lower()
    if kind.startswith("image/") or kind == "application/octet-stream":
        images, batch = [body], False
    elif kind == "application/json":
        images, batch = _from_json(body)
    elif kind == "multipart/form-data":
        images = _from_form(content_type, body, serving.max_batch)
        batch = len(images) > 1
    else:
        raise RequestError(
            415,
            "unsupported_media_type",
            f"content type {kind[:100] or '(none)'!r} is not supported:"
            " send image/*, multipart/form-data or application/json",
        )
    if not images or not all(images):
        raise RequestError(400, "empty", "the request holds no image bytes")
    if len(images) > serving.max_batch:
        raise _too_many(str(len(images)), serving.max_batch)
    return ScoringRequest(images, batch, top_k, explain)


def _too_many(count: str, limit: int) -> RequestError:
    return RequestError(422, "batch_too_large", f"{count} images in a request; the limit is {limit}")


def _read_query(query: str, classes: int) -> tuple[int, bool]:
    """Values of ``top_k`` and ``explain``; of a repeated key the last, as most frameworks take it."""
    try:
        values = dict(parse_qsl(query, keep_blank_values=True, max_num_fields=100))
    except ValueError as error:
        raise RequestError(422, "bad_query", f"the query cannot be read: {error}") from error
    return _top_k(values.get("top_k"), classes), _flag(values.get("explain"))


def _top_k(text: str | None, classes: int) -> int:
    if text is None:
        return min(5, classes)
    if not (text.isascii() and text.isdigit()) or len(text) > 9 or not 1 <= int(text) <= classes:
        raise RequestError(422, "bad_query", f"top_k must be a whole number from 1 to {classes}, not {text[:40]!r}")
    return int(text)


def _flag(text: str | None) -> bool:
    values = {None: False, "false": False, "0": False, "true": True, "1": True}
    if text not in values:
        raise RequestError(422, "bad_query", f"explain must be true or false, not {str(text)[:40]!r}")
    return values[text]


def _from_json(body: bytes) -> tuple[list[bytes], bool]:
    try:
        content = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise RequestError(400, "bad_json", f"the body is not valid JSON: {error}") from error
    if isinstance(content, dict) and isinstance(content.get("image"), str):
        return [_base64(content["image"])], False
    if isinstance(content, dict) and isinstance(content.get("images"), list):
        texts = content["images"]
        if all(isinstance(text, str) for text in texts):
            return [_base64(text) for text in texts], True
    raise RequestError(400, "bad_json", 'JSON must be {"image": BASE64} or {"images": [BASE64, ...]}')


def _base64(text: str) -> bytes:
    if text.startswith("data:"):
        text = text.partition(",")[2]
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise RequestError(400, "bad_base64", f"an image is not valid base64: {error}") from error


def _from_form(content_type: str, body: bytes, limit: int) -> list[bytes]:
    try:
        files, fields = read_files(content_type, body, limit)
    except FormError as error:
        raise RequestError(400, "bad_form", f"the form cannot be read: {error}") from error
    if len(files) > limit:
        raise _too_many(f"more than {limit}", limit)
    if not files and fields:
        names = ", ".join(fields[:5])
        raise RequestError(400, "bad_form", f"the form has the plain field {names} but no file: give it a file name")
    return files
