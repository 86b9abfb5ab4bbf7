"""Interprets responses: which range, which version, and what a refusal means for the user."""

from __future__ import annotations

import http.client
import re
from collections.abc import Mapping
from urllib.parse import urlsplit, urlunsplit

from vision_mlops.data.fetch.partial_file import Version

TEMPORARY = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Statuses after which the same request may succeed."""

_RANGE = re.compile(r"\s*bytes\s+(\d+)-(\d+)/(\d+|\*)\s*", re.IGNORECASE)
_REMEDIES = {
    401: "the server requires a login: download the file in a browser, and pass its path",
    403: "the server denies access: see the home page of the data, or download the file in a browser and pass its path",
    404: "check the address: the file does not exist, or no longer",
    410: "the file was removed permanently: find another address",
    429: "the server limits requests: try again later, or with a lower --jobs",
}


def shown(url: str) -> str:
    """Return an address for messages and records, without possible secrets: user name, password and query."""
    try:
        parts = urlsplit(url)
        return printable(urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", "")))
    except ValueError:
        return printable(url.partition("?")[0])


def printable(text: str) -> str:
    """Replace what a terminal would obey in text from a stranger."""
    return "".join(sign if sign.isprintable() else "?" for sign in text)


def version_of(headers: Mapping[str, str]) -> Version:
    """Return the version that a whole response is of."""
    length = headers.get("Content-Length", "")
    size = int(length) if length.isascii() and length.isdigit() else None
    return Version(headers.get("ETag", ""), headers.get("Last-Modified", ""), size)


def continues(headers: Mapping[str, str], start: int, version: Version, size: int | None) -> bool:
    """Return whether a partial response is the rest of what is there.

    Args:
        headers: Those of the response with status 206.
        start: Number of bytes that are there.
        version: Version that they belong to.
        size: Number of bytes that the whole file must have, if that is known.
    """
    match = _RANGE.fullmatch(headers.get("Content-Range", ""))
    if match is None or int(match[1]) != start:
        return False
    if match[3] != "*":
        total = int(match[3])
        if int(match[2]) != total - 1 or any(known not in (None, total) for known in (size, version.length)):
            return False
    etag = headers.get("ETag", "")
    return not (etag and version.etag) or etag == version.etag


def phrase(status: int) -> str:
    """Return a status with its standard name: the one that the server sends may be anything."""
    return f"{status} {http.client.responses.get(status, '')}".rstrip()


def remedy(status: int) -> str:
    """Say what a user can do about a refusal."""
    return _REMEDIES.get(status, "try again later" if status in TEMPORARY or status >= 500 else "check the address")
