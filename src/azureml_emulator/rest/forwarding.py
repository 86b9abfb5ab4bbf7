"""Forwards a request to another process of this machine, and returns its response."""

from __future__ import annotations

import contextlib
import http.client
import ssl
from collections.abc import Iterable

from starlette.requests import Request
from starlette.responses import Response

METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
_TIMEOUT_SECONDS = 230.0


def forward(
    port: int,
    request: Request,
    target: str,
    headers: Iterable[tuple[str, str]],
    body: bytes,
    dropped: tuple[str, ...],
    trust: ssl.SSLContext | None = None,
) -> Response:
    """Return the response of the process to a request.

    Args:
        port: Port on which it listens.
        request: Request of the client.
        target: Path and query to request instead.
        headers: All headers to send, except for the length of the body.
        body: The whole body.
        dropped: Beginnings of the names of headers to remove from the response, in lower case.
        trust: Certificate authority to trust if the process is reached by https; None for http.

    Raises:
        OSError, http.client.HTTPException: the process does not respond.
    """
    connection = (
        http.client.HTTPSConnection("127.0.0.1", port, timeout=_TIMEOUT_SECONDS, context=trust)
        if trust
        else http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT_SECONDS)
    )
    with contextlib.closing(connection):
        connection.putrequest(request.method, target, skip_host=True, skip_accept_encoding=True)
        for name, value in [*headers, ("Content-Length", str(len(body)))]:
            connection.putheader(name, value)
        connection.endheaders(body)
        answer = connection.getresponse()
        content = answer.read()
    response = Response(content, answer.status)
    response.raw_headers = [
        (name.lower().encode("latin-1"), value.encode("latin-1"))
        for name, value in answer.getheaders()
        if not name.lower().startswith(dropped)
    ]
    length = answer.getheader("Content-Length") if request.method == "HEAD" else str(len(content))
    if answer.status not in (204, 304) and length is not None:
        response.raw_headers.append((b"content-length", length.encode()))
    return response
