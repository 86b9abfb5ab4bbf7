"""The calls to Custom Vision: lists, flags and numbers in their query, their JSON, and their uploads."""

from __future__ import annotations

import json
import re
import uuid
from dataclasses import dataclass

from azureml_emulator.custom_vision.vision_refusals import bad_request
from azureml_emulator.rest.rest_calls import Json, RestCall, ServiceRefusalError

_NUMBER = re.compile(r"[0-9]{1,9}")
_BOUNDARY = re.compile(r'boundary="?([^";,]+)"?', re.IGNORECASE)
_FILE_NAME = re.compile(r'filename="?([^";\r\n]*)"?', re.IGNORECASE)


@dataclass(frozen=True)
class UploadedFile:
    """A file in the body of a call."""

    name: str
    content: bytes


def json_of(call: RestCall) -> Json:
    """Return the JSON object in the body of a call. Raises ServiceRefusalError."""
    try:
        body = json.loads(call.content) if call.content else {}
    except ValueError as error:
        raise bad_request("", f"The body of the request is not JSON: {error}.") from error
    if not isinstance(body, dict):
        raise bad_request("", "The body of the request is not a JSON object.")
    return body


def ids_of(values: object, what: str, most: int | None = None) -> list[str]:
    """Return ids in a list, or in a text with commas between them, each once and in order. Raises ServiceRefusalError.

    Args:
        values: Values that the caller gave; None is an empty list.
        what: Name of the values in an error.
        most: Maximum number of ids.
    """
    parts = [part for part in values.split(",") if part] if isinstance(values, str) else values or []
    if not isinstance(parts, list):
        raise bad_request("InvalidIds", f"{what} is not a list of ids.")
    found = list(dict.fromkeys(id_of(part, what) for part in parts))
    if most is not None and len(found) > most:
        raise bad_request("ExceededBatchSize", f"{what} has {len(found)} ids, but at most {most} are accepted.")
    return found


def id_of(value: object, what: str) -> str:
    """Return an id in its usual form. Raises ServiceRefusalError."""
    try:
        return str(uuid.UUID(str(value).strip()))
    except ValueError as error:
        raise bad_request("InvalidIds", f"{value!r} in {what} is not an id.") from error


def flag_of(call: RestCall, name: str, default: bool = False) -> bool:
    """Return a flag in the query. Raises ServiceRefusalError."""
    text = call.query.get(name, str(default)).lower()
    if text not in ("true", "false"):
        raise bad_request("", f"{name} is {text!r}; it must be true or false.")
    return text == "true"


def number_of(call: RestCall, name: str, default: int, most: int | None = None) -> int:
    """Return a whole number in the query, from 0 on. Raises ServiceRefusalError."""
    text = call.query.get(name, str(default))
    if not _NUMBER.fullmatch(text) or (most is not None and int(text) > most):
        raise bad_request(
            "", f"{name} is {text!r}; it must be a whole number from 0{f' to {most}' if most else ' on'}."
        )
    return int(text)


def word_of(value: object, name: str, words: tuple[str, ...], refusal: str = "") -> str:
    """Return one of some words, ignoring case. Raises ServiceRefusalError with ``BadRequest`` and a given suffix."""
    found = next((word for word in words if word.lower() == str(value).lower()), None)
    if found is None:
        raise bad_request(refusal, f"{name} is {value!r}; it must be one of {', '.join(words)}.")
    return found


def files_of(call: RestCall) -> list[UploadedFile]:
    """Return the files in the body of a call: each part of a form, or the body itself if it is one file.

    Raises:
        ServiceRefusalError: 415, the body has neither form; 400, the form has no file.
    """
    kind = call.headers.get("content-type", "")
    if kind.startswith("application/octet-stream") or kind.startswith("image/"):
        return [UploadedFile("", call.content)]
    boundary = _BOUNDARY.search(kind)
    if not kind.startswith("multipart/") or boundary is None:
        message = f"The content type {kind!r} is not supported: send multipart/form-data or application/octet-stream."
        refusal: ServiceRefusalError = bad_request("", message)
        refusal.status, refusal.code = 415, "UnsupportedMediaType"
        raise refusal
    found = []
    for part in (b"\r\n" + call.content).split(b"\r\n--" + boundary[1].encode())[1:]:
        if part.startswith(b"--"):
            break
        head, found_end, content = part.partition(b"\r\n\r\n")
        if found_end:
            name = _FILE_NAME.search(head.decode("utf-8", "replace"))
            found.append(UploadedFile(name[1] if name else "", content))
    if not found:
        raise bad_request("ImageStream", "The form has no image.")
    return found
