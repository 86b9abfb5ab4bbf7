"""The public address of a slot: takes requests over TLS, and passes them to the process that is running.

Headers by which the service says who is signed in are removed from what clients send, because nobody is signed in here.
"""

from __future__ import annotations

import http.client
from collections.abc import Callable

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from azureml_emulator.rest.forwarding import METHODS, forward

LARGEST_REQUEST = 100_000_000
"""Maximum number of bytes of a body that the front end accepts."""
_OWN_HEADERS = ("connection", "transfer-encoding", "keep-alive", "content-length", "host", "x-forwarded-")
_NOT_PASSED = (*_OWN_HEADERS, "x-ms-client-principal")
_WAITING = (
    "<!doctype html><title>Microsoft Azure App Service</title><p>Your web app is running and waiting for your content"
)
_ERROR = "<!doctype html><title>Application Error</title><p>:( Application Error"


def site_front(port: Callable[[], int | None]) -> Starlette:
    """Return the application in front of a slot.

    Args:
        port: Port of the running process; 0 if it does not respond, None if nothing was deployed.
    """

    async def pass_on(request: Request) -> Response:
        there = port()
        if there is None:
            return HTMLResponse(_WAITING, 200 if request.url.path == "/" else 404)
        if int(request.headers.get("content-length") or 0) > LARGEST_REQUEST:
            return HTMLResponse("Request Entity Too Large", 413)
        body = await request.body()
        if len(body) > LARGEST_REQUEST:
            return HTMLResponse("Request Entity Too Large", 413)
        return await run_in_threadpool(_ask, there, request, body)

    return Starlette(routes=[Route("/{path:path}", pass_on, methods=METHODS)])


def _ask(port: int, request: Request, body: bytes) -> Response:
    host = request.headers.get("host", "")
    sent = [(name, value) for name, value in request.headers.items() if _passes(name)]
    # With the port of the client, as the service does.
    client = f"{request.client.host}:{request.client.port}" if request.client else "127.0.0.1:0"
    sent += [("Host", host), ("X-Forwarded-For", client), ("X-Forwarded-Proto", "https"), ("X-Forwarded-Host", host)]
    path = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    try:
        return forward(port, request, path, sent, body, _NOT_PASSED)
    except (OSError, http.client.HTTPException):
        return HTMLResponse(_ERROR, 503)


def _passes(name: str) -> bool:
    return not name.lower().startswith(_NOT_PASSED)
