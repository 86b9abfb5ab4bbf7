"""What is in a folder of a container: one request for 5,000 blobs, read by the parser in C."""

from __future__ import annotations

import base64
import binascii
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import unquote

from vision_mlops.exceptions import AzureError

PAGE = 5000


@dataclass(frozen=True, slots=True)
class Blob:
    """A blob as a listing shows it.

    Attributes:
        size: Bytes.
        md5: MD5 of the content, 16 bytes; empty where nobody stored it.
        etag: Changes with each change, with its quotes.
    """

    size: int
    md5: bytes
    etag: str


def read_page(content: bytes) -> tuple[list[tuple[str, Blob]], str]:
    """Blobs of a page by name, and the mark of the next page, which is empty at the end. Markers of folders are left out.

    Raises:
        AzureError: it is no listing.
    """
    try:
        root = ET.fromstring(content)
        found = list(_blobs(root))
    except (ET.ParseError, KeyError, ValueError, TypeError) as error:
        raise AzureError(f"what storage lists cannot be read: {error}", "try again") from error
    return found, root.findtext("NextMarker") or ""


def _blobs(root: ET.Element) -> Iterator[tuple[str, Blob]]:
    for item in root.iterfind("Blobs/Blob"):
        label, properties = item[0], item.find("Properties")
        if label.tag != "Name" or properties is None:
            raise ValueError("a blob without a name or properties")
        facts = {fact.tag: fact.text or "" for fact in properties}
        size = int(facts["Content-Length"])
        name = label.text or ""
        if label.get("Encoded") == "true":  # it holds letters that XML does not know
            name = unquote(name)
        if facts.get("ResourceType") == "directory" or (size == 0 and _marks_folder(name, item)):
            continue
        etag = facts["Etag"]
        yield name, Blob(size, decode_md5(facts.get("Content-MD5", "")), etag if etag.startswith('"') else f'"{etag}"')


def _marks_folder(name: str, item: ET.Element) -> bool:
    """Whether an empty blob only says that there is a folder, as Data Lake accounts and file browsers write them."""
    return name.endswith("/") or (item.findtext("Metadata/hdi_isfolder") or "").lower() == "true"


def decode_md5(text: str) -> bytes:
    """The 16 bytes of a ``Content-MD5``; empty where it is missing or malformed."""
    try:
        found = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""
    return found if len(found) == 16 else b""


def encode_md5(digest: bytes) -> str:
    """As it stands in a header."""
    return base64.b64encode(digest).decode()
