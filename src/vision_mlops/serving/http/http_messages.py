"""One request and one response, as a connection passes them to an application and back."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from typing import Any, Protocol

from vision_mlops.serving.telemetry.trace_context import TraceContext, request_id_of

HeaderList = tuple[tuple[bytes, bytes], ...]
JSON = b"application/json"


@dataclass(slots=True, eq=False)
class Response:
    """Status, body and headers of what is sent back; ``code`` is that of an error."""

    status: int
    body: bytes
    kind: bytes = JSON
    headers: HeaderList = ()
    code: str = ""

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
    """A request that gets an error in response: HTTP status, code and message, and headers of its own."""

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


@dataclass(slots=True, eq=False)
class Request:
    """One request, and what becomes known about it on its way; times are those of the performance counter."""

    connection: Sender
    started: float = field(default_factory=time.perf_counter)
    method: str = ""  # empty until the head is complete
    url: bytes = b""
    path: str = ""
    query: str = ""
    http_1_0: bool = False
    headers: dict[bytes, bytes] = field(default_factory=dict)
    expects: bool = False  # the client sends the body only once it is told to go on
    chunks: list[bytes] = field(default_factory=list)
    size: int = 0
    body: bytes = b""
    complete: bool = False
    keep_alive: bool = True
    answered: bool = False
    job: Work | None = None
    request_id: str = ""
    trace: TraceContext | None = None
    queue_ms: float = 0.0
    inference_ms: float = 0.0
    labels: tuple[str, ...] = ()

    def text(self, name: bytes) -> str:
        """Return the value of a header; empty if it was not sent."""
        value = self.headers.get(name)
        return value.decode("latin-1") if value else ""

    def identify(self) -> None:
        """Give the request its id: the client's, or a new one."""
        self.request_id = request_id_of(self.text(b"x-request-id"))

    def declared_size(self) -> int:
        """Return the number of bytes of the body that the head announces, or 0. The parser has checked it."""
        return int(self.headers.get(b"content-length", b"0"))
