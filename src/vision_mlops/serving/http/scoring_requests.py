"""Reads scoring requests: raw image bytes, multipart forms or JSON with base64, and the errors each can have.

Free of any web framework: the scoring server and the entry script for Azure ML's own server read the same way.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, unquote

from vision_mlops.config.workload import Serving
from vision_mlops.core.errors import ImageError
from vision_mlops.core.text import closest, nearest
from vision_mlops.images.formats import find_format
from vision_mlops.serving.http.content_codings import decode_body
from vision_mlops.serving.http.http_messages import RequestError
from vision_mlops.serving.http.multipart_forms import FormError, read_form

_OPTIONS = ("top_k", "explain")
_DESCRIBE = "describe"
_KEYS = ("image", "images", _DESCRIBE, *_OPTIONS)
_CURL_FORM = "application/x-www-form-urlencoded"
"""What curl says that a body is if it is not told: anything but a form."""
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


@dataclass(frozen=True, slots=True)
class ScoringRequest:
    """What is to be scored. ``batch`` is true for the list form, whose response is a list even for one image.

    ``describe`` asks for a description of the model in place of scores; there are no images then.
    """

    images: list[bytes]
    batch: bool
    top_k: int
    explain: bool
    describe: bool = False


def read_scoring_request(
    content_type: str, query: str, body: bytes, *, serving: Serving, classes: int, content_encoding: str = ""
) -> ScoringRequest:
    """Parse query and body.

    ``top_k`` and ``explain`` stand in the query, or beside the image in a form or in JSON; the query counts more.

    Args:
        content_type: Value of that header; may be empty.
        query: What stands behind the question mark, percent-encoded. Keys that are not known are ignored, as
            proxies add some, unless they are like a known one.
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
        body = decode_body(body, content_encoding, serving.max_body_mb * 2**20)
    kind = content_type.partition(";")[0].strip().lower()
    if not kind or kind == _CURL_FORM:  # a client that does not say what it sends
        kind = _kind_of(body, kind)
    if kind.startswith("image/") or kind == "application/octet-stream":
        images, batch = [body], False
    elif kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json")):
        content = read_json(body, content_type)
        if isinstance(content, dict) and _DESCRIBE in content:
            return _description_request(content)
        images, batch, beside = _from_json(content)
        options = {**beside, **options}
    elif kind == "multipart/form-data":
        images, fields = _from_form(content_type, body, serving.max_batch)
        batch = len(images) > 1
        _check_likeness(fields, "field of the form")
        options = {**fields, **options}
    else:
        hint = "send image/*, multipart/form-data or application/json"
        if kind == _CURL_FORM:
            hint += '; for an image, give curl --data-binary @FILE --header "Content-Type: image/jpeg"'
        raise RequestError(415, "unsupported_media_type", f"content type {kind[:100]!r} is not supported: {hint}")
    if not images or not all(images):
        raise RequestError(400, "empty", "the request contains no image")
    if len(images) > serving.max_batch:
        raise _too_many(str(len(images)), serving.max_batch)
    return ScoringRequest(images, batch, _top_k(options.get("top_k"), classes), _flag(options.get("explain")))


def _too_many(count: str, limit: int) -> RequestError:
    return RequestError(422, "batch_too_large", f"{count} images in a request; the limit is {limit}")


def _read_query(query: str) -> dict[str, str]:
    """Return the values of a query; of a repeated key the last, as most frameworks do."""
    try:
        options = dict(parse_qsl(query, keep_blank_values=True, max_num_fields=100))
    except ValueError as error:
        raise RequestError(422, "bad_query", f"the query cannot be read: {error}") from error
    _check_likeness(options, "query parameter")
    return options


def _check_likeness(names: Iterable[str], what: str, known: Sequence[str] = _OPTIONS, code: str = "bad_query") -> None:
    """Refuse a name that is close to a known one, as a typing mistake; any other may be for a proxy."""
    for name in names:
        if name not in known and (near := closest(name, known, cutoff=0.7)):
            raise RequestError(422, code, f"unknown {what} {name[:40]!r}: did you mean {near[0]!r}?")


def check_keys(content: Iterable[str], known: Iterable[str]) -> None:
    """Refuse the first key of a JSON object that is not known. Raises RequestError: 422, with the nearest one."""
    names = list(known)
    for name in content:
        if name not in names:
            raise RequestError(
                422, "unknown_key", f"unknown key {name[:40]!r} in the JSON: {nearest(name[:40], names)}"
            )


def _kind_of(body: bytes, named: str) -> str:
    """Return the content type of a body by its first bytes, where its client names none, or curl's default."""
    if body[:64].lstrip().startswith((b"{", b"[")):
        return "application/json"
    if not named:
        return "application/octet-stream"
    try:
        find_format(body[:512], "image")
    except ImageError as error:
        if error.reason == "not_an_image":
            return named
    if b"\0" not in body:  # each format has some
        raise RequestError(
            400, "bad_request", "null bytes and line ends of the image are missing: give curl --data-binary, not --data"
        )
    return "application/octet-stream"


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
    """Return a value for a message; a list may be nested too deeply to be written."""
    if isinstance(value, bool | int | float):
        return json.dumps(value)[:40]
    return repr(value[:40]) if isinstance(value, str) else f"a JSON {'array' if isinstance(value, list) else 'object'}"


def _description_request(content: dict[str, Any]) -> ScoringRequest:
    if content != {_DESCRIBE: True} or content[_DESCRIBE] is not True:  # 1 equals True
        raise RequestError(422, "bad_query", 'a request for a description must be {"describe": true} and nothing else')
    return ScoringRequest([], False, 1, False, describe=True)


def _from_json(content: Any) -> tuple[list[bytes], bool, dict[str, Any]]:
    """Return the images, whether they came as a list, and the options beside them."""
    if isinstance(content, dict):
        _check_likeness(content, "key in the JSON", _KEYS, "unknown_key")
        options = {name: content[name] for name in _OPTIONS if name in content}
        image, texts = content.get("image"), content.get("images")
        if image is not None and texts is not None:
            raise RequestError(400, "bad_json", "the JSON has both 'image' and 'images': send one of them")
        if isinstance(image, str):
            return [_base64(image)], False, options
        if isinstance(texts, list) and all(isinstance(text, str) for text in texts):
            return [_base64(text) for text in texts], True, options
    forms = '{"image": BASE64}, {"images": [BASE64, ...]} or {"describe": true}'
    raise RequestError(400, "bad_json", f"JSON must be {forms}")


def read_json(body: bytes, content_type: str) -> Any:
    """Read a JSON body: UTF-8, -16 or -32, with or without a byte order mark, or in the charset that is named.

    Raises:
        RequestError: 400 malformed, 415 another charset.
    """
    try:
        named = _CHARSET.search(content_type)
        charset = named[1].lower() if named is not None else "utf-8"
        if charset not in _CHARSETS:
            message = f"charset {charset[:40]!r} is not supported: send JSON in UTF-8"
            raise RequestError(415, "unsupported_charset", message)
        return json.loads(body if charset.startswith("utf") else body.decode(charset), object_pairs_hook=_object)
    except (ValueError, RecursionError) as error:
        raise RequestError(400, "bad_json", f"the body is not valid JSON: {error}") from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object. Refuse a repeated key: all values but the last would be dropped silently."""
    content: dict[str, Any] = {}
    for name, value in pairs:
        if name in content:
            raise RequestError(400, "bad_json", f"the JSON has the key {name[:40]!r} more than once")
        content[name] = value
    return content


def _base64(text: str) -> bytes:
    """Decode the image in a JSON string: also as a data URL, in lines, with the URL-safe alphabet or without padding."""
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
        hint = "; were plus signs turned into spaces?" if " " in text else ""
        raise RequestError(400, "bad_base64", f"an image is not valid base64: {error}{hint}") from error


def _from_form(content_type: str, body: bytes, limit: int) -> tuple[list[bytes], dict[str, str]]:
    try:
        files, fields = read_form(content_type, body, limit)
    except FormError as error:
        raise RequestError(400, "bad_form", f"the form cannot be read: {error}") from error
    if len(files) > limit:
        raise _too_many(f"more than {limit}", limit)
    if not files and fields:
        names = ", ".join(list(fields)[:5])
        raise RequestError(400, "bad_form", f"the form has the plain field {names} but no file: give it a file name")
    return files, fields
