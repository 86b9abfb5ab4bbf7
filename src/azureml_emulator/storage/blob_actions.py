"""The actions of a request to Blob Storage, as in role definitions.

Containers are managed (an action), their content is data (an action on data). Therefore an Owner lists containers but
cannot read a blob.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qs, unquote, urlsplit

_SERVICE = "Microsoft.Storage/storageAccounts/blobServices"
_CONTAINERS = f"{_SERVICE}/containers"
_BLOBS = f"{_CONTAINERS}/blobs"
_READS = ("GET", "HEAD")


@dataclass(frozen=True)
class BlobAction:
    """Something that a role must allow.

    Attributes:
        action: Any of these is enough.
        data: Whether they are actions on data.
        container: Container of the action; empty for the account.
    """

    action: tuple[str, ...]
    data: bool
    container: str = ""


def actions_of(method: str, path: str, query: str, headers: Mapping[str, str]) -> list[BlobAction]:
    """Return all actions of a request.

    Args:
        method: HTTP method.
        path: Path below the account, such as ``/container/folder/blob``.
        query: Query without the question mark.
        headers: Headers of the request, by names in lower case.
    """
    asked = {name: values[0] for name, values in parse_qs(query, keep_blank_values=True).items()}
    part, kind = asked.get("comp", ""), asked.get("restype")
    container, _, blob = path.lstrip("/").partition("/")
    if not container or kind == "account":
        return [_of_account(method, part)]
    if kind == "container":
        return [_of_container(method, part, container)]
    if not blob:  # the root container is not named
        container = "$root"
    return [_of_blob(method, part, container, asked, headers), *_source(headers)]


def _of_account(method: str, part: str) -> BlobAction:
    if part == "userdelegationkey":
        return BlobAction((f"{_SERVICE}/generateUserDelegationKey/action",), False)
    if part == "batch":  # it can delete blobs and change their tier
        return BlobAction((f"{_BLOBS}/delete",), True)
    if part == "blobs":
        return BlobAction((f"{_BLOBS}/filter/action",), True)
    if part == "list":
        return BlobAction((f"{_CONTAINERS}/read",), False)
    return BlobAction((f"{_SERVICE}/{'read' if method in _READS else 'write'}",), False)


def _of_container(method: str, part: str, container: str) -> BlobAction:
    if part == "list":
        return BlobAction((f"{_BLOBS}/read",), True, container)
    if part == "blobs":
        return BlobAction((f"{_BLOBS}/filter/action",), True, container)
    if part == "batch":
        return BlobAction((f"{_BLOBS}/delete",), True, container)
    if part == "acl":
        verb = "getAcl" if method in _READS else "setAcl"
        return BlobAction((f"{_CONTAINERS}/{verb}/action",), False, container)
    verb = {"GET": "read", "HEAD": "read", "DELETE": "delete"}.get(method, "write")
    return BlobAction((f"{_CONTAINERS}/{verb}",), False, container)


def _of_blob(
    method: str, part: str, container: str, asked: Mapping[str, str], headers: Mapping[str, str]
) -> BlobAction:
    if part == "tags":
        return BlobAction((f"{_BLOBS}/tags/{'read' if method in _READS else 'write'}",), True, container)
    if method in _READS or part == "query":
        return BlobAction((f"{_BLOBS}/read",), True, container)
    if method == "DELETE":
        which = "deleteBlobVersion/action" if "versionid" in asked else "delete"
        return BlobAction((f"{_BLOBS}/{which}",), True, container)
    # Who may only add can only write what is new, which a condition or an appended block says.
    adds = headers.get("if-none-match") == "*" or part == "appendblock"
    return BlobAction((f"{_BLOBS}/write", *((f"{_BLOBS}/add/action",) if adds else ())), True, container)


def _source(headers: Mapping[str, str]) -> list[BlobAction]:
    """Return the action of reading a blob that is copied, unless a signature or token of its own allows that."""
    source = urlsplit(headers.get("x-ms-copy-source", ""))
    if not source.path or "sig=" in source.query or "x-ms-copy-source-authorization" in headers:
        return []
    container = unquote(below_account(source.hostname or "", source.path)).lstrip("/").partition("/")[0]
    return [BlobAction((f"{_BLOBS}/read",), True, container)]


def below_account(host: str, path: str) -> str:
    """Return the path below the account: at an address of this machine, the account is its first part."""
    if host.replace(".", "").isdigit() or host == "localhost":
        return f"/{path.lstrip('/').partition('/')[2]}"
    return path
