"""The server in front of the services: a certificate, a free port, a thread, and a gate for every request."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any, cast

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, QueryParams
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from uvicorn.protocols.http.h11_impl import H11Protocol

from azureml_emulator.certificates import Certificates
from azureml_emulator.identity.loopback_tokens import TENANT, check
from azureml_emulator.rest.api_versions import check_version
from azureml_emulator.rest.cloud_addresses import (
    CloudAddresses,
    host_kind,
    inference_endpoint,
    serves,
    vision_account,
)
from azureml_emulator.rest.faults import Faults
from azureml_emulator.rest.path_words import PathWords
from azureml_emulator.rest.request_log import RequestLog
from azureml_emulator.rest.rest_calls import Json, ServiceRefusalError

_Message = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[_Message]]
_Send = Callable[[_Message], Awaitable[None]]
Authorise = Callable[[Json, str, str], None]
"""Refuses a call by the claims of its token, its method and its path. Raises ServiceRefusalError."""
_App = Callable[[_Message, _Receive, _Send], Awaitable[None]]
# No token for the resource manager is needed here: the SDK reads the discovery without one, signing in returns one, scoring
# checks the endpoint's own key, an agent sends the pipeline's token, and vault and Custom Vision need their own tokens.
_OPEN = (
    "/discovery", "/scoring/", f"/{TENANT}/", "/common/", "/organizations/", "/metadata/", "/pipelines/", "/secrets",
    "/deletedsecrets", "/cognitiveservices/",
)  # fmt: skip
_PUBLIC_RESOURCES = ("https://management.azure.com", "https://ml.azure.com")
_PAGES = ("/workspaces/", "/runs/", "/pages.css")


class _Protocol(H11Protocol):
    """Lets the application access its connection, so that it can break it."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(cast(asyncio.Transport, transport))
        self.app_state = {**self.app_state, "transport": transport}

    def shutdown(self) -> None:
        # Clients keep idle connections open and would never close them.
        self.transport.abort()


@dataclass(frozen=True)
class GateRules:
    """The knowledge of the gate before the services.

    Attributes:
        addresses: Addresses of the services.
        faults: Faults that affect calls before they get a response.
        requests: Log of the requests.
        workspace_of: Returns the workspace of an endpoint by its name and by whether it is a batch endpoint.
        authorise: Refuses what the caller may not do, given the claims of the token, the method and the path.
        kept: Called before the response to a call that may have changed something is sent.
    """

    addresses: Callable[[], CloudAddresses]
    faults: Faults
    requests: RequestLog
    workspace_of: Callable[[str, bool], str] = lambda endpoint, batch: ""
    authorise: Authorise = lambda claims, method, path: None
    kept: Callable[[], None] | None = None


class _Gate:
    """What a request passes first: faults, the API version, the token, the roles; at the end it is recorded."""

    def __init__(self, app: _App, rules: GateRules, words: PathWords) -> None:
        self._app = app
        self._rules = rules
        self._words = words

    async def __call__(self, scope: _Message, receive: _Receive, send: _Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        rules, method, address = self._rules, scope["method"], scope["path"]
        if address == "/" or address.startswith(_PAGES):  # viewing a page changes nothing, so faults do not affect it
            await self._app(scope, receive, send)
            return
        addresses, headers = rules.addresses(), Headers(scope=scope)
        host = headers.get("host", "").partition(":")[0]
        fault = rules.faults.take(method, address, host)
        if fault is not None and fault.kind == "drop":
            rules.requests.note(method, address, 0)
            scope["state"]["transport"].abort()
            return

        async def noting(message: _Message) -> None:
            if message["type"] == "http.response.start":
                if rules.kept is not None and (method != "GET" or address.startswith("/operation")):
                    await run_in_threadpool(rules.kept)
                rules.requests.note(method, address, message["status"])
            await send(message)

        try:
            if fault is not None and fault.kind == "answer":
                raise ServiceRefusalError(fault.status, fault.code, fault.message, fault.headers())
            if addresses.public:
                scope["path"] = self._path_at(host, address)
            path = scope["path"] = self._words.settled(scope["path"])
            check_version(path, QueryParams(scope["query_string"]).get("api-version"))
            if not path.startswith(_OPEN):
                claims = self._check(addresses, headers.get("authorization", ""), path)
                scope["state"]["claims"] = claims
                rules.authorise(claims, method, path)
        except ServiceRefusalError as refusal:
            await refusal.response()(scope, receive, noting)
            return
        if fault is None:
            await self._app(scope, receive, noting)
            return
        await self._app(scope, receive, _swallow)
        if rules.kept is not None:
            await run_in_threadpool(rules.kept)
        rules.requests.note(method, address, 0)
        scope["state"]["transport"].abort()

    def _path_at(self, host: str, path: str) -> str:
        """Return the path of a call among those of all services. Raises ServiceRefusalError if its host does not have it."""
        endpoint = inference_endpoint(host)
        if endpoint:
            kind = "batch" if path.startswith("/jobs") else "scoring"
            path = f"/{kind}/{self._rules.workspace_of(endpoint, kind == 'batch')}/{endpoint}{path}"
        if account := vision_account(host):
            path = f"/cognitiveservices/{account}{path}"
        service = host_kind(host)
        if service is None or not serves(service, path):
            raise ServiceRefusalError(404, "ResourceNotFound", f"{host} has nothing at {path}")
        return path

    @staticmethod
    def _check(addresses: CloudAddresses, authorization: str, path: str) -> Json:
        """Return the claims of the caller's token. Raises ServiceRefusalError."""
        batch = path.startswith("/batch/") or ("/batchEndpoints/" in path and path.startswith("/mferp/"))
        # Scoring needs a token for the service itself, everything else one for the resource manager.
        audiences = (addresses.ml_resource,) if batch else addresses.manager_resources
        # models.share requests tokens of the public cloud, whatever cloud it is in.
        if "/registries/" in path or path.startswith(("/operations/", "/operationresults/")):
            audiences += _PUBLIC_RESOURCES
        return check(authorization, audiences)


async def _swallow(message: _Message) -> None:
    """Discard a part of a response that never arrives."""


async def _no_route(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    word = {404: "NoRegisteredProviderFound", 405: "MethodNotAllowed"}.get(status, "Error")
    return ServiceRefusalError(status, word, f"{request.method} {request.scope['path']} is not emulated").response()


class HttpsServer:
    """Listens on a free port of 127.0.0.1.

    Args:
        certificates: Certificates for its clients; None for plain HTTP.

    Attributes:
        port: Port on which it listens.
        url: Its address.
    """

    def __init__(self, certificates: Certificates | None) -> None:
        self._certificates = certificates
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        self.port = int(self._socket.getsockname()[1])
        self.url = f"{'https' if certificates else 'http'}://127.0.0.1:{self.port}"

    def start(self, app: object) -> HttpsServer:
        """Start it and wait until an ASGI application accepts requests."""
        config = uvicorn.Config(
            cast(Any, app),
            http=_Protocol,
            ws="none",
            lifespan="off",
            log_level="critical",
            server_header=False,
            ssl_keyfile=str(self._certificates.key) if self._certificates else None,
            ssl_certfile=str(self._certificates.chain) if self._certificates else None,
            timeout_graceful_shutdown=1,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],), daemon=True)
        self._thread.start()
        deadline = time.monotonic() + 20
        while not self._server.started:
            if time.monotonic() > deadline or not self._thread.is_alive():
                raise RuntimeError("the loopback control plane did not start")
            time.sleep(0.01)
        return self

    def stop(self) -> None:
        """Stop it."""
        self._server.should_exit = True
        self._thread.join(10)
        self._socket.close()


def guarded(routes: list[BaseRoute], rules: GateRules) -> object:
    """Return the application with some routes, behind the gate."""
    app = Starlette(routes=routes, exception_handlers={404: _no_route, 405: _no_route})
    return _Gate(cast(_App, app), rules, PathWords(item.path for item in routes if isinstance(item, Route)))
