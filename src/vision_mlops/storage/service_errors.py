"""What the Blob service says when it refuses: which refusals end everything, which are worth another try, and mends."""

from __future__ import annotations

import http.client
import re
import time
import xml.etree.ElementTree as ET
from email.message import Message
from email.utils import parsedate_to_datetime

from vision_mlops.azure.azure_errors import SIGN_IN
from vision_mlops.core.errors import AzureError
from vision_mlops.storage.http_connections import StorageResponse

_RETRIED = frozenset({408, 429, 500, 502, 503, 504})
# The body was changed on the way: the next one may arrive whole.
_DAMAGED = frozenset({"Md5Mismatch", "InvalidMd5", "MD5Mismatch"})
_CONTAINER = frozenset(
    {
        "ContainerNotFound",
        "ContainerBeingDeleted",
        "ContainerDisabled",
        "AccountIsDisabled",
        "AccountBeingCreated",
        "InvalidResourceName",
        "ResourceNotFound",
    }
)
_LONGEST_WAIT_SECONDS = 120.0
_ROLE = "ask for the role Storage Blob Data Contributor on the account or container, then wait some minutes"
_PERMISSIONS = (
    "make the signature for the container with the permissions racwdl (read, add, create, write, delete, list)"
)
_MENDS = {
    "ContainerNotFound": "check the address; an upload makes it with --create-container",
    "ContainerBeingDeleted": "it is being deleted: wait a minute, or name another one",
    "AuthorizationFailure": "the firewall of the storage account lets no one in from here, or the signature is for something"
    " else: check its networking page, and the signature",
    "AccountIsDisabled": "enable the storage account in the portal",
    "KeyBasedAuthenticationNotPermitted": "the account takes no keys: unset AZURE_STORAGE_CONNECTION_STRING, run `az login`",
    "PublicAccessNotPermitted": f"the request carried no sign-in: {SIGN_IN}",
    "LeaseIdMissing": "somebody holds a lease on it: break the lease, or wait until it ends",
    "SnapshotsPresent": "it has snapshots: delete these first",
    "BlobImmutableDueToPolicy": "a policy of the container forbids changes",
    "InvalidBlobOrBlock": "another program left parts of an unfinished upload there: delete the blob, or wait a week",
    "InvalidBlobType": "it is an append or page blob: delete it first",
}


class RefusalError(AzureError):
    """The service refused, or was not reached.

    Attributes:
        code: The service's word for it, such as ``ContainerNotFound``; empty without one.
        fatal: It would refuse all other requests, too.
        transient: The same request may succeed later.
        pause: Seconds that the service asks to wait for before that; None if it does not say.
    """

    def __init__(
        self,
        message: str,
        hint: str = "",
        status: int = 0,
        *,
        code: str = "",
        fatal: bool = False,
        transient: bool = False,
        pause: float | None = None,
    ) -> None:
        super().__init__(message, hint, status)
        self.code = code
        self.fatal = fatal
        self.transient = transient
        self.pause = pause


def refusal(what: str, answer: StorageResponse, kind: str, ended: str = "") -> RefusalError:
    """The error for an answer.

    Args:
        what: What was asked for; begins the message.
        answer: The answer.
        kind: Kind of the sign-in.
        ended: When the sign-in ended, where it has.
    """
    status = answer.status
    code, message = _read(answer)
    code = code or answer.headers.get("x-ms-error-code", "") or ""
    hint = _MENDS.get(code, "")
    fatal = status in (401, 403) or code in _CONTAINER
    if 300 <= status < 400:
        message, fatal = "the address redirects, which storage accounts do not do", True
        hint = "check the host: a proxy or another service answers there"
    elif status in (401, 403) and (ended or not hint):
        hint = _sign_in_hint(code, kind, ended)
    word = f"HTTP {status} {code}".strip()
    reason = message or http.client.responses.get(status, "no reason given")
    return RefusalError(
        f"{what}: {reason} ({word})",
        hint or ("storage has a fault: try again in a minute" if status >= 500 else "mend what the message names"),
        status,
        code=code,
        fatal=fatal,
        transient=status in _RETRIED or code in _DAMAGED,
        pause=wait_asked_for(answer.headers),
    )


def wait_asked_for(headers: Message) -> float | None:
    """Seconds that the service asks to wait for, two minutes at most; None where it does not say."""
    for name, unit in (("retry-after-ms", 1000.0), ("x-ms-retry-after-ms", 1000.0), ("Retry-After", 1.0)):
        text = headers.get(name)
        if text is None:
            continue
        try:
            seconds = float(text) / unit
        except ValueError:
            try:
                seconds = parsedate_to_datetime(text).timestamp() - time.time()
            except ValueError:
                continue
        return min(max(0.0, seconds), _LONGEST_WAIT_SECONDS)
    return None


def _sign_in_hint(code: str, kind: str, ended: str) -> str:
    if ended:
        return f"the signature ended at {ended}: make a new one"
    if kind == "identity":
        return _ROLE if code.startswith("Authorization") else f"the sign-in is not valid here: {SIGN_IN}"
    if kind == "key":
        return "the account key is not valid (any more): export the current connection string"
    if code.startswith("Authorization"):
        return _PERMISSIONS
    return f"the signature is not valid here, has ended, or is for another container: {_PERMISSIONS}"


def _read(answer: StorageResponse) -> tuple[str, str]:
    """Code and message of a body; the message without its lines about request and time."""
    try:
        root = ET.fromstring(answer.content.removeprefix(b"\xef\xbb\xbf"))
    except (ET.ParseError, ValueError):
        return "", ""
    message = (root.findtext("Message") or "").splitlines()
    code = root.findtext("Code") or ""
    return code if re.fullmatch(r"\w{1,100}", code) else "", message[0].strip()[:300] if message else ""
