"""The storage account as its clients see it: over TLS, with the account's own rules, and with Azurite behind it.

Azurite checks keys and signatures. A token is checked here, against the same sign-in service as at the control plane, and
so are the roles of its owner, and of the user that a user delegation signature names. Then the request is passed on, with
a signature if Azurite does not accept tokens. Planned faults also apply here.
"""

from __future__ import annotations

import http.client
import ssl
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from html import escape
from pathlib import Path
from typing import Protocol
from urllib.parse import parse_qs

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from azureml_emulator.rest.faults import Fault, Faults
from azureml_emulator.rest.forwarding import METHODS, forward
from azureml_emulator.rest.rest_calls import Json, ServiceRefusalError
from azureml_emulator.storage.azurite import ACCOUNT, KEY, Azurite
from azureml_emulator.storage.blob_actions import BlobAction, actions_of, below_account
from azureml_emulator.storage.shared_key_gate import CODE, SharedKeyGate

AUDIENCES = ("https://storage.azure.com", "https://storage.azure.com/", f"https://{ACCOUNT}.blob.core.windows.net")
_OWN_HEADERS = ("connection", "transfer-encoding", "keep-alive", "content-length")
# Error codes of Blob Storage that differ from those of the control plane.
_CODES = {
    400: "InvalidInput", 403: "AuthorizationFailure", 404: "ResourceNotFound", 409: "BlobAlreadyExists",
    412: "ConditionNotMet", 416: "InvalidRange", 500: "InternalError", 503: "ServerBusy",
}  # fmt: skip

_NO_ROLE = "This request is not authorized to perform this operation using this permission."

Check = Callable[[str, tuple[str, ...]], Json]
Allows = Callable[[str, BlobAction], bool]
"""Returns whether a role of a principal, by its object id, allows something."""


class Server(Protocol):
    """A server on a port."""

    @property
    def port(self) -> int:
        """Return the port on which it listens."""

    @property
    def url(self) -> str:
        """Return its address."""

    def stop(self) -> None:
        """Stop it."""


class StorageFront:
    """The front end, which starts when it is first needed.

    Args:
        azurite: The storage behind it.
        authority: Certificate authority to trust if Azurite is reached by https.
        gate: The account's rule about its keys.
        faults: Faults that affect calls before they get a response.
        check: Returns the claims of the token in a header ``Authorization``; raises ServiceRefusalError unless it has one of
            some audiences.
        allows: Returns whether the owner of a token may do something.
        serve: Runs an application on a free port.
    """

    def __init__(
        self,
        azurite: Azurite,
        authority: Path,
        gate: SharedKeyGate,
        faults: Faults,
        check: Check,
        allows: Allows,
        serve: Callable[[Starlette], Server],
    ) -> None:
        self._azurite = azurite
        self._authority = authority
        self._gate = gate
        self._faults = faults
        self._check = check
        self._allows = allows
        self._serve = serve
        self._server: Server | None = None
        self._trust: ssl.SSLContext | None = None
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        """Return its address."""
        return self._start().url

    def port_for_clients(self) -> int:
        """Return the address of the account."""
        return self._start().port

    def stop(self) -> None:
        """Stop it; it starts again when it is needed."""
        with self._lock:
            if self._server is not None:
                self._server.stop()
                self._server = None

    def _start(self) -> Server:
        with self._lock:
            if self._server is None:
                if self._azurite.url.startswith("https:"):
                    self._trust = ssl.create_default_context(cafile=self._authority)
                routes = [Route("/{path:path}", self._answer, methods=METHODS)]
                self._server = self._serve(Starlette(routes=routes))
            return self._server

    async def _answer(self, request: Request) -> Response:
        host = request.headers.get("host", "").partition(":")[0]
        fault = self._faults.take(request.method, request.scope["path"], host, by_address=True)
        if fault is not None and fault.kind == "answer":
            return _struck(fault)
        if fault is not None and fault.kind == "drop":
            return _broken(request)
        authorization = request.headers.get("authorization", "")
        if reason := self._gate.refusal(request.url.query, authorization):
            return _refused(403, CODE, reason)
        body = await request.body()
        found = await run_in_threadpool(self._ask, request, authorization, body)
        return _broken(request) if fault is not None else found

    def _ask(self, request: Request, authorization: str, body: bytes) -> Response:
        dropped: tuple[str, ...] = _OWN_HEADERS
        query = request.url.query
        by_token = authorization.lower().startswith("bearer ")
        principal = parse_qs(query).get("skoid", [""])[0]  # the user who signed with a delegation key
        if by_token:
            try:
                principal = str(self._check(authorization, AUDIENCES).get("oid"))
            except ServiceRefusalError as refusal:
                return _refused(401, "InvalidAuthenticationInfo", refusal.message)
        if principal and not self._may(principal, request):
            return _refused(403, "AuthorizationPermissionMismatch", _NO_ROLE)
        if by_token and self._trust is None:  # Azurite only accepts tokens by https
            dropped, query = (*dropped, "authorization"), "&".join(part for part in (query, _signature()) if part)
        sent = [(name, value) for name, value in request.headers.items() if not name.lower().startswith(dropped)]
        path = request.scope["raw_path"].decode("latin-1")
        target = f"{path}?{query}" if query else path
        try:
            return forward(self._azurite.port, request, target, sent, body, _OWN_HEADERS, self._trust)
        except (OSError, http.client.HTTPException) as error:
            return _refused(500, "InternalError", f"Azurite does not respond: {error}")

    def _may(self, principal: str, request: Request) -> bool:
        path = below_account(request.url.hostname or "", request.scope["path"])
        done = actions_of(request.method, path, request.url.query, request.headers)
        return all(self._allows(principal, item) for item in done)


def _signature() -> str:
    """Return a signature for the whole account that expires in five minutes."""
    from azure.storage.blob import AccountSasPermissions, ResourceTypes, generate_account_sas

    return generate_account_sas(
        ACCOUNT,
        KEY,
        resource_types=ResourceTypes(service=True, container=True, object=True),
        permission=AccountSasPermissions(
            True, True, True, list=True, add=True, create=True, update=True, process=True, tag=True
        ),
        expiry=datetime.now(UTC) + timedelta(minutes=5),
    )


def _struck(fault: Fault) -> Response:
    """Return the response of a fault in the form of Blob Storage."""
    response = _refused(fault.status, _CODES.get(fault.status, fault.code), fault.message)
    response.headers.update(fault.headers())
    return response


def _broken(request: Request) -> Response:
    """Return a response that never arrives, because the connection is gone before it."""
    request.scope["state"]["transport"].abort()
    return Response()


def _refused(status: int, code: str, message: str) -> Response:
    body = (
        f'<?xml version="1.0" encoding="utf-8"?><Error><Code>{code}</Code><Message>{escape(message)}</Message></Error>'
    )
    headers = {"x-ms-error-code": code}
    if status == 401:
        headers["WWW-Authenticate"] = (
            'Bearer authorization_uri="https://login.microsoftonline.com" resource_id="https://storage.azure.com"'
        )
    return Response(body, status, headers, "application/xml")
