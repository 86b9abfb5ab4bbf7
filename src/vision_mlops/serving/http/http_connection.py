"""HTTP/1.1 on one connection: llhttp parses, and limits are kept on everything a client may do slowly or endlessly.

It is written for the one thing the server does: a request is read whole, handed to the app, and answered whole. A general
ASGI server costs a twentieth of the throughput here, for tasks and events that such an exchange does not need: after each
inference the caches are cold, and every line of Python that runs for a request counts double.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol
from urllib.parse import unquote

import httptools

from vision_mlops.serving.telemetry.tracing import TraceContext

HeaderList = tuple[tuple[bytes, bytes], ...]
JSON = b"application/json"
HEAD_BYTES = 64 * 1024
LINGER_SECONDS = 10.0
_DISCARDED_BODIES = 4
_READ = frozenset(
    (b"content-type", b"content-length", b"authorization", b"x-api-key", b"x-request-id", b"traceparent", b"tracestate",
     b"expect", b"azureml-model-deployment")
)  # fmt: skip
_PHRASES = {
    200: "OK", 400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed",
    408: "Request Timeout", 409: "Conflict", 413: "Content Too Large", 415: "Unsupported Media Type",
    422: "Unprocessable Content", 429: "Too Many Requests", 431: "Request Header Fields Too Large",
    500: "Internal Server Error", 501: "Not Implemented", 503: "Service Unavailable",
}  # fmt: skip
_STATUS = {code: f"HTTP/1.1 {code} {phrase}\r\n".encode() for code, phrase in _PHRASES.items()}


class Response:
    """Status, body and headers of what is sent back."""

    __slots__ = ("body", "code", "headers", "kind", "status")

    def __init__(self, status: int, body: bytes, kind: bytes = JSON, headers: HeaderList = ()) -> None:
        self.status = status
        self.body = body
        self.kind = kind
        self.headers = headers
        self.code = ""  # of an error

    @classmethod
    def json(cls, status: int, content: Any, headers: HeaderList = ()) -> Response:
        """An answer with a JSON body."""
        return cls(status, json.dumps(content).encode(), JSON, headers)

    @classmethod
    def error(cls, status: int, code: str, message: str, headers: HeaderList = ()) -> Response:
        """An answer that says what is wrong."""
        answer = cls.json(status, {"error": {"code": code, "message": message}}, headers)
        answer.code = code
        return answer


class Work(Protocol):
    """What is done for a request. ``abandoned`` is set when nobody waits for the answer any more."""

    abandoned: bool


class Request:
    """One request, and what becomes known about it while it is answered; times are those of the performance counter."""

    __slots__ = (
        "answered", "body", "chunks", "complete", "connection", "headers", "inference_ms", "job", "keep_alive",
        "labels", "method", "path", "query", "queue_ms", "request_id", "size", "started", "trace", "url",
    )  # fmt: skip

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.started = time.perf_counter()
        self.method = ""
        self.url = b""
        self.path = ""
        self.query = ""
        self.headers: dict[bytes, bytes] = {}
        self.chunks: list[bytes] = []
        self.size = 0
        self.body = b""
        self.complete = False
        self.keep_alive = True
        self.answered = False
        self.job: Work | None = None
        self.request_id = ""
        self.trace: TraceContext | None = None
        self.queue_ms = 0.0
        self.inference_ms = 0.0
        self.labels: tuple[str, ...] = ()

    def text(self, name: bytes) -> str:
        """Value of a header, empty where it was not sent."""
        value = self.headers.get(name)
        return value.decode("latin-1") if value else ""


class App(Protocol):
    """What a connection needs of the application."""

    max_body: int
    max_buffered: int
    request_timeout_s: float
    head_timeout_s: float
    keep_alive_s: float
    draining: bool

    def refuse(self, request: Request) -> Response | None:
        """Called with a complete head: an answer there and then, or None to read the body."""

    def handle(self, request: Request) -> Response | None:
        """Called with a complete request: the answer, or None where ``respond`` will be called with it later."""

    def answered(self, request: Request, answer: Response) -> None:
        """Called after each answer, for the log and the metrics."""


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
        """To be called every second: renew the date, close what has been too slow for too long."""
        self.date = time.strftime("date: %a, %d %b %Y %H:%M:%S GMT\r\n", time.gmtime()).encode()
        now = time.monotonic()
        for connection in list(self.connections):
            connection.sweep(now)

    def __call__(self) -> Connection:
        """A protocol for a new connection."""
        return Connection(self)


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
        self._message_since: float | None = None
        self._closing_since: float | None = None
        self._ended = False  # nothing more will come
        self._blocked = False  # the client does not read

    @property
    def idle(self) -> bool:
        """Whether nothing is being read or answered."""
        return self._active is None and self._message_since is None and not self._waiting

    # asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection is open."""
        self.transport = transport  # type: ignore[assignment]
        self.hub.connections.add(self)

    def data_received(self, data: bytes) -> None:
        """Bytes came."""
        self.heard = time.monotonic()
        if self._ended:
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._break_off(Response.error(501, "not_implemented", "there is no other protocol than HTTP/1.1 here"))
        except httptools.HttpParserError as error:
            self._break_off(Response.error(400, "bad_request", f"this is not HTTP/1.1: {error}"))
        else:
            reading = self._reading
            if reading is not None and not reading.method:
                self._head_bytes += len(data)
                if self._head_bytes > HEAD_BYTES:
                    self._break_off(Response.error(431, "head_too_large", "the head of the request is too large"))

    def eof_received(self) -> bool:
        """The client sends no more, but may wait for answers."""
        self._ended = True
        return self._active is not None or bool(self._waiting)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone, and nobody waits for answers any more."""
        self._ended = True
        self.hub.connections.discard(self)
        self.hub.on_close()
        for request in (self._reading, self._active, *self._waiting):
            if request is not None:
                self._release(request)
                if request.job is not None:
                    request.job.abandoned = True
        self._reading = self._active = self._parser = None  # the parser refers to this connection
        self._waiting.clear()

    def pause_writing(self) -> None:
        """The client does not read its answers: no further ones until it does."""
        self._blocked = True

    def resume_writing(self) -> None:
        """It reads again."""
        self._blocked = False
        self._next()

    # llhttp

    def on_message_begin(self) -> None:
        """A request begins."""
        self._reading = Request(self)
        self._message_since = self.heard
        self._head_bytes = 0

    def on_url(self, url: bytes) -> None:
        """The address, or a part of it."""
        if self._reading is not None:
            self._reading.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header; of a repeated one the first counts."""
        name = name.lower()
        if name in _READ and self._reading is not None:
            first = self._reading.headers.setdefault(name, value)
            if first is not value and name.startswith(b"trace"):  # these are joined, which makes two parents invalid
                self._reading.headers[name] = b"%b,%b" % (first, value)

    def on_headers_complete(self) -> None:
        """The head is complete: the app may refuse the request before its body is read."""
        request = self._reading
        if request is None:
            return
        request.method = self._parser.get_method().decode("latin-1")
        request.keep_alive = self._parser.should_keep_alive()
        request.path, request.query = _split(request.url)
        if self._active is None and not self._waiting:
            self._active = request
            refusal = self.app.refuse(request)
            self._active = None
            if refusal is not None:
                self.respond(request, refusal)
            elif request.headers.get(b"expect", b"").lower() == b"100-continue":
                self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, chunk: bytes) -> None:
        """A piece of the body."""
        request = self._reading
        if request is None:
            return
        request.size += len(chunk)
        if request.answered:
            if request.size > _DISCARDED_BODIES * self.app.max_body:
                self.transport.abort()  # it has its answer, and goes on sending
            return
        request.chunks.append(chunk)
        self.hub.buffered += len(chunk)
        if request.size > self.app.max_body:
            self._refuse_body(request, Response.error(413, "body_too_large", too_large(self.app.max_body)))
        elif self.hub.buffered > self.app.max_buffered:
            message = "the bodies that are being received fill the memory; try again in 1 s"
            self._refuse_body(request, Response.error(429, "too_many_requests", message, ((b"retry-after", b"1"),)))

    def on_message_complete(self) -> None:
        """The request is complete."""
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
        """Send an answer, whole; without effect where there has been one, or the client has gone."""
        if request.answered or self.transport.is_closing():
            return
        request.answered = True
        self._release(request)
        keep_alive = request.keep_alive = request.keep_alive and not self.app.draining and not (
            self._ended and not self._waiting
        )  # fmt: skip
        head = b"%b%bcontent-type: %b\r\ncontent-length: %d\r\nx-request-id: %b\r\n" % (
            _STATUS[answer.status], self.hub.date, answer.kind, len(answer.body), request.request_id.encode()
        )  # fmt: skip
        for name, value in answer.headers:
            head += b"%b: %b\r\n" % (name, value)
        end = b"\r\n" if keep_alive else b"connection: close\r\n\r\n"
        self.transport.write(head + end + (b"" if request.method == "HEAD" else answer.body))
        self.app.answered(request, answer)
        if self._active is request:
            self._active = None
        if not keep_alive and request.complete:
            self.transport.close()  # one whose body still comes lingers: closed now, it might not see its answer
        elif self._waiting:
            asyncio.get_running_loop().call_soon(self._next)

    def _next(self) -> None:
        """Hand the next complete request to the app."""
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
            self.transport.abort()  # behind other requests: there is no place for an answer yet

    def _break_off(self, answer: Response) -> None:
        """Answer what cannot be read any further, and close."""
        self._ended = True
        request = self._reading or Request(self)
        self._reading = self._message_since = None
        if self._active is not None or self._waiting:
            return  # the answers to the requests before it come first, and the connection closes behind them
        request.keep_alive, request.complete = False, True
        if request.answered:
            self.transport.close()
        else:
            self.respond(request, answer)

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
                self.transport.abort()  # its last answer is not being read
            return
        reading, active = self._reading, self._active
        if active is not None and time.perf_counter() - active.started > self.app.request_timeout_s:
            if active.job is not None:
                active.job.abandoned = True
            message = f"no answer within {self.app.request_timeout_s:.0f} s"
            self.respond(active, Response.error(503, "timeout", message, ((b"retry-after", b"1"),)))
        elif reading is not None and self._message_since is not None:
            self._sweep_reading(reading, now - self._message_since)
        elif self.idle and now - self.heard > self.app.keep_alive_s:
            self.transport.close()

    def _sweep_reading(self, reading: Request, seconds: float) -> None:
        if reading.answered:
            if seconds > self.app.request_timeout_s + LINGER_SECONDS or (
                not reading.keep_alive and time.monotonic() - self.heard > 1
            ):
                self.transport.close()
        elif not reading.method and seconds > self.app.head_timeout_s:
            self._break_off(Response.error(408, "request_timeout", "the head was not complete in time"))
        elif seconds > self.app.request_timeout_s:
            message = f"the body was not complete within {self.app.request_timeout_s:.0f} s"
            self._break_off(Response.error(408, "request_timeout", message))


def _split(url: bytes) -> tuple[str, str]:
    """Path, decoded, and query, as it was sent. The address may be a whole one, as proxies send it."""
    if url[:1] != b"/":
        try:
            parsed = httptools.parse_url(url)
            path, query = parsed.path or b"/", parsed.query or b""
        except (httptools.HttpParserInvalidURLError, ValueError):
            path, query = url, b""
    else:
        path, _, query = url.partition(b"?")
        query = query.partition(b"#")[0]
    text = path.decode("latin-1")
    return (unquote(text, errors="replace") if "%" in text else text), query.decode("latin-1")


def too_large(limit: int) -> str:
    """What a client is told about a body over the limit."""
    return f"the body is larger than {limit // 2**20} MB"
