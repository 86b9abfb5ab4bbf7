"""HTTP/1.1 on one connection: llhttp parses, and limits are kept on everything a client may do slowly or endlessly.

It is written for the one thing the server does: a request is read whole, handed to the app, and answered whole. A general
ASGI server costs a twentieth of the throughput here, for tasks and events that such an exchange does not need: after each
inference the caches are cold, and every line of Python that runs for a request counts double.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Protocol

import httptools

from vision_mlops.serving.http.cross_origin import CrossOrigin
from vision_mlops.serving.http.http_messages import Request, Response
from vision_mlops.serving.http.request_head import HEAD_BYTES, JOINED, KEPT, check_head, split_target

LINGER_SECONDS = 10.0
_SILENT_SECONDS = 1.0
_DISCARDED_BODIES = 4
_STATUS = {int(status): f"HTTP/1.1 {status:d} {status.phrase}\r\n".encode() for status in HTTPStatus}


class App(Protocol):
    """What a connection needs of the application."""

    max_body: int
    max_buffered: int
    request_timeout_s: float
    head_timeout_s: float
    keep_alive_s: float
    draining: bool
    cross_origin: CrossOrigin

    def refuse(self, request: Request) -> Response | None:
        """Return a response to a complete head, or None to read the body."""

    def handle(self, request: Request) -> Response | None:
        """Return the response to a complete request, or None if ``respond`` will be called with it later."""

    def answered(self, request: Request, answer: Response) -> None:
        """Note a response, for the log and the metrics."""


class Hub:
    """The connections of one process, and what they share.

    Args:
        app: Answers requests.
    """

    def __init__(self, app: App) -> None:
        self.app = app
        self.on_close: Callable[[], None] = lambda: None
        """Called after each connection that has ended."""
        self.connections: set[Connection] = set()
        self.buffered = 0
        """Bytes of bodies that are held at the moment."""
        self.date = b""
        self.tick()

    def tick(self) -> None:
        """Renew the date, and close what has been too slow for too long; called every second."""
        self.date = time.strftime("date: %a, %d %b %Y %H:%M:%S GMT\r\n", time.gmtime()).encode()
        now = time.monotonic()
        for connection in list(self.connections):
            connection.sweep(now)

    def __call__(self) -> Connection:
        """Return a protocol for a new connection."""
        return Connection(self)


class _BadHeadError(Exception):
    """Raised to make the parser stop reading."""


class Connection(asyncio.Protocol):
    """One connection. Requests that come while one is being answered wait for it, and reading stops."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self.app = hub.app
        self.transport: asyncio.Transport = None  # type: ignore[assignment] # set by connection_made
        self.heard = time.monotonic()
        self._parser: Any = httptools.HttpRequestParser(self)
        self._reading: Request | None = None
        self._active: Request | None = None
        self._waiting: deque[Request] = deque()
        self._head_bytes = 0
        self._silent_bytes = 0  # since the last piece of a body, or since a head began
        self._refusal: Response | None = None  # of a head, to be sent once the parser has stopped
        self._offered = False  # another protocol, for the request whose head has just come
        self._resuming = False
        self._message_since: float | None = None
        self._closing_since: float | None = None
        self._broken_off: float | None = None
        self._ended = False  # nothing more will come, or be listened to
        self._blocked = False  # the client does not read

    @property
    def idle(self) -> bool:
        """Whether nothing is being read or answered."""
        return self._active is None and self._message_since is None and not self._waiting

    # asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note that the connection is open."""
        self.transport = transport  # type: ignore[assignment]
        self.hub.connections.add(self)

    def data_received(self, data: bytes) -> None:
        """Parse bytes that came."""
        self.heard = time.monotonic()
        if self._ended:
            return
        reading = self._reading
        size = reading.size if reading is not None else 0
        try:
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserUpgrade as offer:
                self._ignore_offer(data[offer.args[0] :])
        except httptools.HttpParserError as error:
            refusal, self._refusal = self._refusal, None
            self._break_off(refusal or Response.error(400, "bad_request", f"this is not HTTP/1.1: {error}"))
            return
        if reading is None or self._reading is not reading or reading.size != size:
            self._silent_bytes = 0
            return
        self._silent_bytes += len(data)
        if self._silent_bytes > HEAD_BYTES:  # a header, or what surrounds a chunk, that never ends
            self._break_off(_head_too_large())

    def _ignore_offer(self, rest: bytes) -> None:
        """Continue with HTTP/1.1 where the client offers another protocol, as Java's client does with h2c.

        The parser takes what follows such a head for the other protocol. So a new one is told how the body is framed, and
        reads on.

        Args:
            rest: Bytes that came after the head.
        """
        while True:
            request, self._offered = self._reading, False
            self._parser = httptools.HttpRequestParser(self)
            self._resuming = True
            self._parser.feed_data(b"POST * HTTP/1.1\r\n" + (_framing(request) if request is not None else b"\r\n"))
            self._resuming = False
            try:
                self._parser.feed_data(rest)
            except httptools.HttpParserUpgrade as offer:
                rest = rest[offer.args[0] :]
            else:
                return

    def eof_received(self) -> bool:
        """Note that the client sends no more; it may still wait for responses."""
        self._ended = True
        return self._active is not None or bool(self._waiting)

    def connection_lost(self, exc: Exception | None) -> None:
        """Release everything: the connection is gone, and nobody waits for responses."""
        self._ended = True
        self.hub.connections.discard(self)
        self.hub.on_close()
        for request in (self._reading, self._active, *self._waiting):
            if request is not None:
                self._release(request)
                if request.job is not None:
                    request.job.abandon()
        self._reading = self._active = self._parser = None  # the parser refers to this connection
        self._waiting.clear()

    def pause_writing(self) -> None:
        """Stop responding until the client reads its responses."""
        self._blocked = True

    def resume_writing(self) -> None:
        """Respond again, as the client reads."""
        self._blocked = False
        self._next()

    # llhttp

    def on_message_begin(self) -> None:
        """Begin a request."""
        if self._resuming:
            return
        self._reading = Request(self)
        self._message_since = self.heard
        self._head_bytes = 0

    def on_url(self, url: bytes) -> None:
        """Keep the address, or a part of it."""
        request = self._reading
        if request is not None and not request.method:
            request.url += url
            self._count_head(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header; of a repeated one the first counts. Trailers of a body are only counted."""
        self._count_head(len(name) + len(value) + 4)
        name, value = name.lower(), value.strip(b" \t")  # the parser leaves the blanks behind a value
        request = self._reading
        if name in KEPT and request is not None and not request.method:
            headers = request.headers
            if name not in headers:
                headers[name] = value
            elif name in JOINED:
                headers[name] = b"%b, %b" % (headers[name], value)

    def on_headers_complete(self) -> None:
        """Let the app refuse the request before its body is read, as the head is complete."""
        request = self._reading
        if request is None or request.method:
            return
        parser = self._parser
        request.method = parser.get_method().decode("latin-1")
        request.keep_alive = parser.should_keep_alive()
        request.path, request.query = split_target(request.url)
        self._refusal = check_head(request, parser.get_http_version())
        if self._refusal is not None:
            raise _BadHeadError
        self._offered = parser.should_upgrade()
        if self._active is None and not self._waiting:
            self._begin_body(request)

    def _begin_body(self, request: Request) -> None:
        """Refuse a request whose head is complete, or tell its client to continue."""
        self._active = request
        refusal = self.app.refuse(request)
        self._active = None
        if refusal is not None:
            request.keep_alive &= not request.expects  # whether its body will come is not known
            self.respond(request, refusal)
        elif request.expects and not request.size:
            request.expects = False
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _count_head(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > HEAD_BYTES:
            self._refusal = _head_too_large()
            raise _BadHeadError

    def on_body(self, chunk: bytes) -> None:
        """Keep a piece of the body, and refuse a body that is too large."""
        request = self._reading
        if request is None:
            return
        request.size += len(chunk)
        if request.answered:
            if request.size > _DISCARDED_BODIES * self.app.max_body:
                self.transport.abort()  # it has its response, and continues to send
            return
        request.chunks.append(chunk)
        self.hub.buffered += len(chunk)
        if request.size > self.app.max_body:
            self._refuse_body(request, Response.error(413, "body_too_large", too_large(self.app.max_body)))
        elif self.hub.buffered > self.app.max_buffered:
            message = "the bodies of requests fill the memory; try again in 1 s"
            self._refuse_body(request, Response.error(429, "too_many_requests", message, ((b"retry-after", b"1"),)))

    def on_message_complete(self) -> None:
        """Pass the complete request on."""
        if self._offered:
            return  # so the parser has it, which takes the body for the other protocol
        request, self._reading, self._message_since = self._reading, None, None
        if request is None:
            return
        request.complete = True
        if request.answered:
            if not request.keep_alive:
                self.transport.close()
            return
        request.body = request.chunks[0] if len(request.chunks) == 1 else b"".join(request.chunks)
        request.chunks.clear()
        self._waiting.append(request)
        if self._active is None:
            self._next()
        else:
            self.transport.pause_reading()

    # Answers

    def respond(self, request: Request, answer: Response) -> None:
        """Send a whole response; without effect where one was sent, or the client has disconnected."""
        if request.answered or self.transport.is_closing():
            return
        request.answered = True
        if not request.request_id:  # it could not be read, and so the app has not seen it
            request.identify()
        self._release(request)
        keep_alive = request.keep_alive = request.keep_alive and not self.app.draining and not (
            self._ended and not self._waiting
        )  # fmt: skip
        head = b"%b%bx-request-id: %b\r\n" % (_STATUS[answer.status], self.hub.date, request.request_id.encode())
        if answer.status != 204:
            head += b"content-type: %b\r\ncontent-length: %d\r\n" % (answer.kind, len(answer.body))
        headers = answer.headers
        if self.app.cross_origin:
            headers += self.app.cross_origin.headers(request)
        for name, value in headers:
            head += b"%b: %b\r\n" % (name, value)
        if not keep_alive:
            end = b"connection: close\r\n\r\n"
        else:
            end = b"connection: keep-alive\r\n\r\n" if request.http_1_0 else b"\r\n"
        self.transport.write(head + end + (b"" if request.method == "HEAD" else answer.body))
        self.app.answered(request, answer)
        if self._active is request:
            self._active = None
        if not keep_alive and request.complete:
            self.transport.close()  # one whose body still comes lingers: closed now, it might not see its response
        elif self._waiting:
            asyncio.get_running_loop().call_soon(self._next)
        elif self._reading is not None and self._reading.expects and not self._reading.answered:
            self._begin_body(self._reading)  # it came while another one was being answered

    def _next(self) -> None:
        """Pass the next complete request to the app."""
        if self._active is not None or self._blocked or not self._waiting or self.transport.is_closing():
            return
        request = self._active = self._waiting.popleft()
        answer = self.app.handle(request)
        if answer is not None:
            self.respond(request, answer)
        if not self._waiting and not self._ended:
            self.transport.resume_reading()

    def _refuse_body(self, request: Request, answer: Response) -> None:
        if self._active is None and not self._waiting:
            self.respond(request, answer)
        else:
            self.transport.abort()  # behind other requests: there is no place for a response yet

    def _break_off(self, answer: Response) -> None:
        """Respond to what cannot be read any further, send no more, and close once the client has fallen silent.

        A connection that is closed while more comes is reset, and the client might not see the response.
        """
        self._ended = True
        request = self._reading or Request(self)
        self._reading = self._message_since = None
        if self._active is not None or self._waiting:
            return  # the responses to the requests before it come first, and the connection closes behind them
        request.keep_alive = request.complete = False
        if request.answered or self.transport.is_closing():
            self.transport.close()
            return
        self.respond(request, answer)
        self._broken_off = time.monotonic()
        self.transport.write_eof()

    def _release(self, request: Request) -> None:
        self.hub.buffered -= sum(map(len, request.chunks)) or len(request.body)
        request.chunks.clear()
        request.body = b""

    # Time

    def sweep(self, now: float) -> None:
        """Close what has been too slow for too long."""
        if self.transport.is_closing():
            self._closing_since = self._closing_since or now
            if now - self._closing_since > LINGER_SECONDS:
                self.transport.abort()  # its last response is not being read
            return
        if self._broken_off is not None:
            if now - self.heard > _SILENT_SECONDS or now - self._broken_off > LINGER_SECONDS:
                self.transport.close()
            return
        reading, active = self._reading, self._active
        if active is not None and time.perf_counter() - active.started > self.app.request_timeout_s:
            if active.job is not None:
                active.job.abandon()
            message = f"no response within {self.app.request_timeout_s:.0f} s"
            self.respond(active, Response.error(503, "timeout", message, ((b"retry-after", b"1"),)))
        elif reading is not None and self._message_since is not None:
            self._sweep_reading(reading, now - self._message_since)
        elif self.idle and now - self.heard > self.app.keep_alive_s:
            self.transport.close()

    def _sweep_reading(self, reading: Request, seconds: float) -> None:
        if reading.answered:
            if seconds > self.app.request_timeout_s + LINGER_SECONDS or (
                not reading.keep_alive and time.monotonic() - self.heard > _SILENT_SECONDS
            ):
                self.transport.close()
        elif not reading.method and seconds > self.app.head_timeout_s:
            self._break_off(Response.error(408, "request_timeout", "the head of the request was not complete in time"))
        elif seconds > self.app.request_timeout_s:
            message = f"the body was not complete within {self.app.request_timeout_s:.0f} s"
            self._break_off(Response.error(408, "request_timeout", message))


def _framing(request: Request) -> bytes:
    """Return the headers that say where the body of a request ends, as the end of a head."""
    framing = (b"content-length", b"transfer-encoding")
    return (
        b"".join(b"%b: %b\r\n" % (name, request.headers[name]) for name in framing if name in request.headers) + b"\r\n"
    )


def _head_too_large() -> Response:
    message = f"the head of the request, or the trailers of its body, are larger than {HEAD_BYTES // 1024} kB"
    return Response.error(431, "head_too_large", message)


def too_large(limit: int) -> str:
    """Return what a client is told about a body over the limit."""
    return f"the body is larger than {limit // 2**20} MB"
