"""Connections from the router to one scoring server, kept open between requests."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import Any, Protocol

import httptools

from vision_mlops.serving.http.http_messages import HeaderList

_IDLE_SECONDS = 30.0
"""Shorter than the server keeps one open: it should not close one that is about to be used."""
_OWN = frozenset((b"connection", b"keep-alive", b"content-length", b"transfer-encoding", b"date", b"x-request-id"))


class Waiting(Protocol):
    """What waits for the response to a request. Exactly one of its two methods is called, once."""

    def answered(self, status: int, kind: bytes, headers: HeaderList, body: bytes, seconds: float) -> None:
        """Take the complete response; ``headers`` are those that the server has set besides the usual ones."""

    def broken(self) -> None:
        """Note that the connection has ended before the response was complete."""


class Upstream(asyncio.Protocol):
    """One connection, with at most one request on it."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.port = pool.port
        self.transport: asyncio.Transport = None  # type: ignore[assignment] # set by connection_made
        self.idle_since = 0.0
        self._waiting: Waiting | None = None
        self._parser: Any = httptools.HttpResponseParser(self)
        self._sent = 0.0
        self._kind = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._chunks: list[bytes] = []

    def send(self, waiting: Waiting, head: bytes, body: bytes) -> None:
        """Send a complete request."""
        self._waiting = waiting
        self._sent = time.perf_counter()
        if body:
            self.transport.writelines((head, body))
        else:
            self.transport.write(head)

    def abandon(self) -> None:
        """End the connection, so that the server notices that nobody waits any more."""
        self._waiting = None
        self.transport.abort()

    # asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note that the connection is open."""
        self.transport = transport  # type: ignore[assignment]
        self.pool.connections.add(self)

    def data_received(self, data: bytes) -> None:
        """Parse received bytes."""
        if self._waiting is None:
            self.transport.abort()  # nothing was requested
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that the connection has ended."""
        self.pool.lost(self)
        waiting, self._waiting = self._waiting, None
        self._parser = None  # it refers to this connection
        if waiting is not None:
            waiting.broken()

    # llhttp

    def on_message_begin(self) -> None:
        """Begin a response."""
        self._kind = b""
        self._headers = []
        self._chunks = []

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header."""
        name = name.lower()
        if name == b"content-type":
            self._kind = value
        elif name not in _OWN:
            self._headers.append((name, value))

    def on_body(self, chunk: bytes) -> None:
        """Take a part of the body."""
        self._chunks.append(chunk)

    def on_message_complete(self) -> None:
        """Pass the complete response on."""
        status = self._parser.get_status_code()
        waiting = self._waiting
        if status < 200 or waiting is None:
            return
        self._waiting = None
        seconds = time.perf_counter() - self._sent
        chunks, self._chunks = self._chunks, []
        body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        kind, headers = self._kind, tuple(self._headers)
        if self._parser.should_keep_alive():
            self.pool.give(self)
        else:
            self.transport.close()
        waiting.answered(status, kind, headers, body, seconds)


class Pool:
    """The connections to one server, as many as there were concurrent requests."""

    def __init__(self) -> None:
        self.port = 0
        self.connections: set[Upstream] = set()
        self._idle: deque[Upstream] = deque()

    def take(self) -> Upstream | None:
        """Return the connection that has been idle longest, so that all workers take turns; None if none is idle."""
        while self._idle:
            upstream = self._idle.popleft()
            if not upstream.transport.is_closing():
                return upstream
        return None

    def give(self, upstream: Upstream) -> None:
        """Keep a connection for the next request; one to a server that has been replaced is closed."""
        if upstream.port == self.port and not upstream.transport.is_closing():
            upstream.idle_since = time.monotonic()
            self._idle.append(upstream)
        else:
            upstream.transport.close()

    async def connect(self) -> Upstream:
        """Open a new connection. Raises OSError."""
        if not self.port:
            raise ConnectionRefusedError("no server runs")
        loop = asyncio.get_running_loop()
        _transport, upstream = await loop.create_connection(lambda: Upstream(self), "127.0.0.1", self.port)
        return upstream

    def lost(self, upstream: Upstream) -> None:
        """Forget a connection that has ended."""
        self.connections.discard(upstream)

    def move(self, port: int) -> None:
        """Continue with a server on another port, or 0 for none; pending requests may still end on the old one."""
        self.port = port
        while self._idle:
            self._idle.popleft().transport.close()

    def sweep(self, now: float) -> None:
        """Close connections that have been idle for long; called about once a second."""
        while self._idle and now - self._idle[0].idle_since > _IDLE_SECONDS:
            self._idle.popleft().transport.close()
