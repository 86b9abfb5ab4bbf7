"""Refusals of the Blob service: which of them end the transfer, which are worth another attempt, and how to fix them."""

from __future__ import annotations

import http.client
import re
import socket
import ssl
import xml.etree.ElementTree as ET
from collections.abc import Callable

from vision_mlops.azure.azure_errors import SIGN_IN
from vision_mlops.core.errors import AzureError
from vision_mlops.core.retry_after import wait_asked_for
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
    "create the signature for the container with the permissions racwdl (read, add, create, write, delete, list)"
)
_FIXES = {
    "ContainerNotFound": "check the address; an upload makes it with --create-container",
    "ContainerBeingDeleted": "it is being deleted: wait a minute, or name another one",
    "AuthorizationFailure": "the firewall of the storage account does not allow this machine, or the signature is for"
    " something else: check its networking page, and the signature",
    "AccountIsDisabled": "enable the storage account in the portal",
    "KeyBasedAuthenticationNotPermitted": "the account does not accept keys: unset AZURE_STORAGE_CONNECTION_STRING,"
    " and run `az login`",
    "PublicAccessNotPermitted": f"the request was not authenticated: {SIGN_IN}",
    "LeaseIdMissing": "it is leased: break the lease, or wait until it ends",
    "SnapshotsPresent": "it has snapshots: delete these first",
    "BlobImmutableDueToPolicy": "a policy of the container forbids changes",
    "InvalidBlobOrBlock": "another program left parts of an unfinished upload there: delete the blob, or wait a week",
    "InvalidBlobType": "it is an append or page blob: delete it first",
}


class RefusalError(AzureError):
    """The service refused a request, or could not be reached.

    Attributes:
        code: Error code of the service, such as ``ContainerNotFound``; empty if there is none.
        fatal: All other requests would be refused, too.
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


def refusal(what: str, response: StorageResponse, kind: str, ended: str = "") -> RefusalError:
    """Make the error for a response.

    Args:
        what: What was asked for; begins the message.
        response: The response.
        kind: Kind of the sign-in.
        ended: When the credentials expired, if they have.
    """
    status = response.status
    code, message = _read(response)
    code = code or response.headers.get("x-ms-error-code", "") or ""
    hint = _FIXES.get(code, "")
    fatal = status in (401, 403) or code in _CONTAINER
    if 300 <= status < 400:
        message, fatal = "the server redirects, which storage accounts do not do", True
        hint = "check the host: a proxy or another service responds there"
    elif status in (401, 403) and (ended or not hint):
        hint = _sign_in_hint(code, kind, ended)
    word = f"HTTP {status} {code}".strip()
    reason = message or http.client.responses.get(status, "no reason given")
    return RefusalError(
        f"{what}: {reason} ({word})",
        hint
        or ("this is a fault of the service: try again in a minute" if status >= 500 else "fix what the message names"),
        status,
        code=code,
        fatal=fatal,
        transient=status in _RETRIED or code in _DAMAGED,
        pause=wait_asked_for(response.headers, _LONGEST_WAIT_SECONDS),
    )


def _sign_in_hint(code: str, kind: str, ended: str) -> str:
    if ended:
        return f"the signature expired at {ended}: create a new one"
    if kind == "identity":
        return _ROLE if code.startswith("Authorization") else f"the credentials are not valid here: {SIGN_IN}"
    if kind == "key":
        return "the account key is not valid, or no longer valid: export the current connection string"
    if code.startswith("Authorization"):
        return _PERMISSIONS
    return f"the signature is not valid here, has expired, or is for another container: {_PERMISSIONS}"


def _read(response: StorageResponse) -> tuple[str, str]:
    """Return code and message of a body; the message without its lines about request and time."""
    try:
        root = ET.fromstring(response.content.removeprefix(b"\xef\xbb\xbf"))
    except (ET.ParseError, ValueError):
        return "", ""
    message = (root.findtext("Message") or "").splitlines()
    code = root.findtext("Code") or ""
    return code if re.fullmatch(r"\w{1,100}", code) else "", message[0].strip()[:300] if message else ""


def not_reached(what: str, host: str, error: Exception, reached: bool, hide: Callable[[str], str]) -> RefusalError:
    """Make the error for a connection that cannot be made, or breaks. Before the first response, some are final.

    Args:
        what: What was asked for; begins the message.
        host: Host and port.
        error: The exception that was raised.
        reached: Whether there was a response before.
        hide: Replaces secrets in a text.
    """
    if isinstance(error, ssl.SSLCertVerificationError):
        message = f"{host} is not trusted: {error.verify_message}"
        return RefusalError(message, "name the certificate authority of your proxy in REQUESTS_CA_BUNDLE", fatal=True)
    if isinstance(error, socket.gaierror) and not reached:
        message = f"unknown host {host}: {error.strerror}"
        return RefusalError(message, "check the name of the storage account, and the network", fatal=True)
    if isinstance(error, ConnectionRefusedError) and not reached:
        return RefusalError(f"nothing listens at {host}", "check the address and the port", fatal=True)
    if isinstance(error, TimeoutError):
        reason = "it did not respond in time"
    elif isinstance(error, http.client.IncompleteRead):
        reason = "the response ended too early"
    elif isinstance(error, http.client.RemoteDisconnected | ConnectionError):
        reason = "it was cut"
    else:
        reason = " ".join((getattr(error, "strerror", None) or str(error) or type(error).__name__).split())
    hint = "check the network, then run the same command again: it continues where it stopped"
    return RefusalError(f"{what}: the connection to {host} failed: {hide(reason)}", hint, transient=True)
