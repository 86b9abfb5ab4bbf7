"""ASGI messages without a framework: the headers that matter, the body within its limits, and an answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from vision_mlops.deployment.requests import RequestError

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

JSON = b"application/json"
_READ = frozenset(
    (b"content-type", b"content-length", b"authorization", b"x-api-key", b"x-request-id", b"traceparent", b"tracestate")
)


class DisconnectedError(Exception):
    """The client closed the connection before its request was complete."""


def read_headers(scope: Scope) -> dict[bytes, bytes]:
    """The headers that the server looks at; of a repeated one the first."""
    found: dict[bytes, bytes] = {}
    for name, value in scope["headers"]:
        if name in _READ and name not in found:
            found[name] = value
    return found


class BodyBudget:
    """How many bytes of bodies the process holds at the moment, and may hold."""

    __slots__ = ("held", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.held = 0

    def take(self, size: int) -> None:
        """Count bytes that have been read.

        Raises:
            RequestError: 429, there are too many of them.
        """
        self.held += size
        if self.held > self.limit:
            raise RequestError(429, "too_many_requests", "the bodies being received fill the memory; try again in 1 s")

    def give_back(self, size: int) -> None:
        """Bytes of a body are held no longer."""
        self.held -= size


class Body:
    """The body of one request; ``complete`` is False while bytes are missing. To be released by :meth:`release`."""

    __slots__ = ("_budget", "_limit", "_size", "complete")

    def __init__(self, limit: int, budget: BodyBudget) -> None:
        self._limit = limit
        self._budget = budget
        self._size = 0
        self.complete = False

    async def read(self, receive: Receive, declared: bytes) -> bytes:
        """All bytes, or an error as soon as they are known to be too many, whatever the headers say.

        Args:
            receive: ASGI's callable.
            declared: Value of Content-Length, which may be missing or wrong.

        Raises:
            RequestError: 413 too large, 429 no memory for it.
            DisconnectedError: the client has gone.
        """
        if declared.isdigit() and len(declared) < 20 and int(declared) > self._limit:
            raise self._too_large()
        chunks: list[bytes] = []
        while not self.complete:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise DisconnectedError
            chunk = message.get("body", b"")
            self._size += len(chunk)
            self._budget.take(len(chunk))
            if self._size > self._limit:
                raise self._too_large()
            chunks.append(chunk)
            self.complete = not message.get("more_body", False)
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def release(self) -> None:
        """Give the bytes back to the budget."""
        self._budget.give_back(self._size)
        self._size = 0

    def _too_large(self) -> RequestError:
        return RequestError(413, "body_too_large", f"the body is larger than {self._limit // 2**20} MB")


async def respond(
    send: Send, status: int, body: bytes, kind: bytes = JSON, headers: tuple[tuple[bytes, bytes], ...] = ()
) -> None:
    """Send a whole answer."""
    head = [(b"content-type", kind), (b"content-length", str(len(body)).encode()), *headers]
    await send({"type": "http.response.start", "status": status, "headers": head})
    await send({"type": "http.response.body", "body": body})
