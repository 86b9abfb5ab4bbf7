"""What is in a folder of a container: pages of thousands of blobs, read by the parser in C."""

from __future__ import annotations

import base64
import binascii
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from typing import NamedTuple
from urllib.parse import unquote
from xml.sax.saxutils import unescape

from vision_mlops.core.errors import AzureError

PAGE = 2500
"""Half of what one request may ask for: a page is read while the service makes the next."""


class Blob(NamedTuple):
    """A blob as a listing shows it.

    Attributes:
        size: Bytes.
        md5: MD5 of the content, 16 bytes; empty if none is stored.
        etag: Changes with each change, with its quotes.
    """

    size: int
    md5: bytes
    etag: str


def next_marker(content: bytes) -> str:
    """Return the marker of the next page; empty at the end."""
    _, found, rest = content.rpartition(b"<NextMarker>")
    return unescape(rest.partition(b"</NextMarker>")[0].decode()) if found else ""


def read_page(content: bytes) -> list[tuple[str, Blob]]:
    """Return the blobs of a page by name, without markers of folders.

    Raises:
        AzureError: it is not a listing.
    """
    try:
        return list(_blobs(ET.fromstring(content)))
    except (ET.ParseError, KeyError, ValueError, TypeError) as error:
        raise AzureError(f"the listing of storage cannot be read: {error}", "try again") from error


def _blobs(root: ET.Element) -> Iterator[tuple[str, Blob]]:
    for item in root.iterfind("Blobs/Blob"):
        label, properties = item[0], item.find("Properties")
        if label.tag != "Name" or properties is None:
            raise ValueError("a blob without a name or properties")
        size = int(properties.findtext("Content-Length") or "")
        name = label.text or ""
        if label.get("Encoded") == "true":  # it holds letters that XML does not know
            name = unquote(name)
        if properties.findtext("ResourceType") == "directory" or (size == 0 and _marks_folder(name, item)):
            continue
        etag = properties.findtext("Etag") or ""
        digest = decode_md5(properties.findtext("Content-MD5") or "")
        yield name, Blob(size, digest, etag if etag.startswith('"') else f'"{etag}"')


def _marks_folder(name: str, item: ET.Element) -> bool:
    """Return whether an empty blob only marks a folder, as Data Lake accounts and file browsers write them."""
    return name.endswith("/") or (item.findtext("Metadata/hdi_isfolder") or "").lower() == "true"


def decode_md5(text: str) -> bytes:
    """Return the 16 bytes of a ``Content-MD5``; empty if it is missing or malformed."""
    try:
        found = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""
    return found if len(found) == 16 else b""


def encode_md5(digest: bytes) -> str:
    """Return an MD5 as it is written in a header."""
    return base64.b64encode(digest).decode()
