"""The HTTPS server in front of the services: a certificate, a free port, and a thread."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any, cast

import trustme
import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute
from uvicorn.protocols.http.h11_impl import H11Protocol

from azureml_emulator.identity.loopback_tokens import TENANT, check
from azureml_emulator.rest.faults import Faults
from azureml_emulator.rest.request_log import RequestLog
from azureml_emulator.rest.rest_calls import ServiceRefusalError

AML_RESOURCE = "https://ml.loopback"
"""What tokens for Azure ML itself are meant for."""
_Message = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[_Message]]
_Send = Callable[[_Message], Awaitable[None]]
_App = Callable[[_Message, _Receive, _Send], Awaitable[None]]
# The SDK reads the discovery without a token, signing in gives one, scoring checks the endpoint's own key, and a vault wants
# tokens of its own.
_OPEN = ("/discovery", "/scoring/", f"/{TENANT}/", "/secrets", "/deletedsecrets")


class _Protocol(H11Protocol):
    """Lets the application reach its connection, so that it can break it."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(cast(asyncio.Transport, transport))
        self.app_state = {**self.app_state, "transport": transport}

    def shutdown(self) -> None:
        # Clients keep idle connections open and would never say goodbye.
        self.transport.abort()


class _Gate:
    """What every request goes through first: faults, then the token; at the end it is written down."""

    def __init__(self, app: _App, url: str, faults: Faults, requests: RequestLog) -> None:
        self._app = app
        self._url = url
        self._faults = faults
        self._requests = requests

    async def __call__(self, scope: _Message, receive: _Receive, send: _Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        method, path = scope["method"], scope["path"]
        fault = self._faults.take(method, path)
        if fault is not None and fault.kind == "drop":
            self._requests.note(method, path, 0)
            scope["state"]["transport"].abort()
            return

        async def noting(message: _Message) -> None:
            if message["type"] == "http.response.start":
                self._requests.note(method, path, message["status"])
            await send(message)

        try:
            if fault is not None and fault.kind == "answer":
                raise ServiceRefusalError(fault.status, fault.code, fault.message, fault.headers())
            if not path.startswith(_OPEN):
                self._check(scope, path)
        except ServiceRefusalError as refusal:
            await refusal.response()(scope, receive, noting)
            return
        if fault is None:
            await self._app(scope, receive, noting)
            return
        await self._app(scope, receive, _swallow)
        self._requests.note(method, path, 0)
        scope["state"]["transport"].abort()

    def _check(self, scope: _Message, path: str) -> None:
        headers = dict(scope["headers"])
        batch = path.startswith("/batch/") or ("/batchEndpoints/" in path and path.startswith("/mferp/"))
        # Scoring needs a token for the service itself, the rest one for the resource manager.
        audiences: tuple[str, ...] = (AML_RESOURCE,) if batch else (self._url,)
        # models.share asks for tokens of the public cloud, whatever cloud it is in.
        if "/registries/" in path or path.startswith(("/operations/", "/operationresults/")):
            audiences += ("https://management.azure.com", "https://ml.azure.com")
        check(headers.get(b"authorization", b"").decode("latin-1"), audiences)


async def _swallow(message: _Message) -> None:
    """An answer that never arrives."""


async def _no_route(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    word = {404: "NoRegisteredProviderFound", 405: "MethodNotAllowed"}.get(status, "Error")
    return ServiceRefusalError(status, word, f"{request.method} {request.scope['path']} is not known here").response()


class HttpsServer:
    """Answers on 127.0.0.1.

    Args:
        routes: What it answers.
        folder: For its certificates.
        faults: What strikes calls before they are answered.
        requests: Where each is written down.

    Attributes:
        url: Its address.
        certificate: The authority that clients must trust.
    """

    def __init__(self, routes: list[BaseRoute], folder: Path, faults: Faults, requests: RequestLog) -> None:
        authority = trustme.CA()
        leaf = authority.issue_cert("127.0.0.1", "localhost")
        folder.mkdir(parents=True, exist_ok=True)
        self.certificate = folder / "authority.pem"
        authority.cert_pem.write_to_path(self.certificate)
        key, chain = folder / "key.pem", folder / "chain.pem"
        leaf.private_key_pem.write_to_path(key)
        for part in leaf.cert_chain_pems:
            part.write_to_path(chain, append=True)
        app = Starlette(routes=routes, exception_handlers={404: _no_route, 405: _no_route})
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        self.url = f"https://127.0.0.1:{self._socket.getsockname()[1]}"
        config = uvicorn.Config(
            cast(Any, _Gate(cast(_App, app), self.url, faults, requests)),
            http=_Protocol,
            ws="none",
            lifespan="off",
            log_level="critical",
            ssl_keyfile=str(key),
            ssl_certfile=str(chain),
            timeout_graceful_shutdown=1,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],), daemon=True)

    def start(self) -> HttpsServer:
        """Start it and wait until it takes requests."""
        self._thread.start()
        deadline = time.monotonic() + 20
        while not self._server.started:
            if time.monotonic() > deadline or not self._thread.is_alive():
                raise RuntimeError("the loopback control plane did not start")
            time.sleep(0.01)
        return self

    def stop(self) -> None:
        """End it."""
        self._server.should_exit = True
        self._thread.join(10)
        self._socket.close()
