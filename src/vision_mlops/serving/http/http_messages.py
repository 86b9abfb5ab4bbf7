"""One request and one response, as a connection passes them to an application and back."""

from __future__ import annotations

import json
import time
from typing import Any, Protocol

from vision_mlops.serving.telemetry.trace_context import TraceContext, request_id_of

HeaderList = tuple[tuple[bytes, bytes], ...]
JSON = b"application/json"


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
        """Return a response with a JSON body."""
        return cls(status, json.dumps(content).encode(), JSON, headers)

    @classmethod
    def error(cls, status: int, code: str, message: str, headers: HeaderList = ()) -> Response:
        """Return a response that says what is wrong."""
        answer = cls.json(status, {"error": {"code": code, "message": message}}, headers)
        answer.code = code
        return answer


class RequestError(Exception):
    """A request that is answered with an error: HTTP status, code and message, and headers of its own."""

    def __init__(self, status: int, code: str, message: str, headers: HeaderList = ()) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.headers = status, code, message, headers

    def response(self) -> Response:
        """Return what the client is sent."""
        return Response.error(self.status, self.code, self.message, self.headers)


class Work(Protocol):
    """What is done for a request."""

    def abandon(self) -> None:
        """Note that nobody waits for the response any more; may be called again."""


class Sender(Protocol):
    """The connection that a request came on."""

    def respond(self, request: Request, answer: Response) -> None:
        """Send a whole response."""


class Request:
    """One request, and what becomes known about it on its way; times are those of the performance counter."""

    __slots__ = (
        "answered", "body", "chunks", "complete", "connection", "expects", "headers", "http_1_0", "inference_ms", "job",
        "keep_alive", "labels", "method", "path", "query", "queue_ms", "request_id", "size", "started", "trace", "url",
    )  # fmt: skip

    def __init__(self, connection: Sender) -> None:
        self.connection = connection
        self.started = time.perf_counter()
        self.method = ""  # empty until the head is complete
        self.url = b""
        self.path = ""
        self.query = ""
        self.http_1_0 = False
        self.headers: dict[bytes, bytes] = {}
        self.expects = False  # the client sends the body only once it is told to go on
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
        """Return the value of a header; empty where it was not sent."""
        value = self.headers.get(name)
        return value.decode("latin-1") if value else ""

    def identify(self) -> None:
        """Give the request its id: the client's, or a new one."""
        self.request_id = request_id_of(self.text(b"x-request-id"))

    def declared_size(self) -> int:
        """Return the number of bytes of the body that the head announces, or 0. The parser has checked it."""
        return int(self.headers.get(b"content-length", b"0"))
