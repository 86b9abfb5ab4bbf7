"""Reads scoring requests: raw image bytes, multipart forms or JSON with base64, and the errors each can have."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from vision_mlops.config.models import Serving


class RequestError(Exception):
    """A request that is answered with an error: HTTP status, code and message."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message


@dataclass(frozen=True, slots=True)
class ScoringRequest:
    """What is to be scored. ``batch`` tells the list form, whose answer is a list also for one image."""

    images: list[bytes]
    batch: bool
    top_k: int
    explain: bool


async def read_scoring_request(request: Request, serving: Serving, classes: int) -> ScoringRequest:
    """Parse query and body.

    Raises:
        RequestError: 400 malformed, 413 too large, 415 unknown type, 422 a value out of range.
    """
    top_k = _top_k(request.query_params.get("top_k"), classes)
    explain = _flag(request.query_params.get("explain"))
    body = await _body(request, serving.max_body_mb * 2**20)
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json":
        images, batch = _from_json(body)
    elif kind == "multipart/form-data":
        images = await _from_form(request, body)
        batch = len(images) > 1
    elif kind.startswith("image/") or kind == "application/octet-stream":
        images, batch = [body], False
    else:
        raise RequestError(
            415,
            "unsupported_media_type",
            f"content type {kind or '(none)'!r} is not supported: send image/*, multipart/form-data or application/json",
        )
    if not images or not all(images):
        raise RequestError(400, "empty", "the request holds no image bytes")
    if len(images) > serving.max_batch:
        raise RequestError(
            422, "batch_too_large", f"{len(images)} images in a request; the limit is {serving.max_batch}"
        )
    return ScoringRequest(images, batch, top_k, explain)


async def _body(request: Request, limit: int) -> bytes:
    """Read the body and stop as soon as it is over the limit, whatever its headers say."""
    too_large = RequestError(413, "body_too_large", f"the body is larger than {limit // 2**20} MB")
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limit:
        raise too_large
    chunks, size = [], 0
    try:
        async for chunk in request.stream():
            size += len(chunk)
            if size > limit:
                raise too_large
            chunks.append(chunk)
    except ClientDisconnect as error:
        raise RequestError(400, "disconnected", "the client closed the connection") from error
    return b"".join(chunks)


def _top_k(text: str | None, classes: int) -> int:
    if text is None:
        return min(5, classes)
    if not text.isdecimal() or not 1 <= int(text) <= classes:
        raise RequestError(422, "bad_query", f"top_k must be a whole number from 1 to {classes}, not {text!r}")
    return int(text)


def _flag(text: str | None) -> bool:
    values = {None: False, "false": False, "0": False, "true": True, "1": True}
    if text not in values:
        raise RequestError(422, "bad_query", f"explain must be true or false, not {text!r}")
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


async def _from_form(request: Request, body: bytes) -> list[bytes]:
    async def stream() -> AsyncGenerator[bytes, None]:
        yield body

    try:
        form = await MultiPartParser(request.headers, stream()).parse()
    except (MultiPartException, KeyError) as error:
        raise RequestError(400, "bad_form", f"the form cannot be read: {error}") from error
    try:
        return [await value.read() for _, value in form.multi_items() if isinstance(value, UploadFile)]
    finally:
        await form.close()
