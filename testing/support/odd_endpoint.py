"""A scoring endpoint that answers what a test tells it to, as badly as it wishes, and remembers what it was asked."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class OddAnswer:
    """One answer.

    Attributes:
        status: Of HTTP.
        content: Sent as JSON, unless it is bytes.
        headers: Beside the length.
        pause: Seconds before each tenth of the content, or before the head where there is none.
        missing: Bytes that are announced and do not come.
        hang_up: Close the connection in place of an answer.
    """

    status: int = 200
    content: Any = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    pause: float = 0.0
    missing: int = 0
    hang_up: bool = False


@dataclass
class AskedOnce:
    """A request."""

    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def describes(self) -> bool:
        return self.body == b'{"describe": true}'


MODEL: dict[str, Any] = {
    "name": "colours", "version": "7", "id": "0123456789ab", "title": "Colours of things",
    "classes": ["blue", "green", "red"],
    "created": "2026-01-02T03:04:05+00:00", "backbone": "mean-colour", "image_size": 32, "resize": "squash",
    "data_fingerprint": "f" * 64, "git_commit": "c" * 40, "run_id": "run-1", "libraries": {"python": "3.11.7"},
    "quantization": None, "metrics": {"test_accuracy": 0.75}, "evaluation": None,
}  # fmt: skip
DESCRIPTION: dict[str, Any] = {"model": MODEL, "limits": {"body_bytes": 2**20, "images": 4}, "request_id": "d"}
SCORES: dict[str, Any] = {
    "predictions": [{"label": "green", "probability": 0.75}, {"label": "red", "probability": 0.25}],
    "timing": {"decode_ms": 1.0, "inference_ms": 2.0, "work_ms": 3.0, "total_ms": 4.0},
    "model": {"name": "colours", "version": "7", "id": "0123456789ab"}, "request_id": "r",
}  # fmt: skip


@dataclass
class OddEndpoint:
    """Answers images with ``first``, one each, then ``always``; descriptions with ``description``.

    Attributes:
        url: Its address.
        asked: What it was asked.
        key: Where not empty: whoever does not send it gets 401.
    """

    url: str = ""
    first: list[OddAnswer] = field(default_factory=list)
    always: OddAnswer = field(default_factory=lambda: OddAnswer(200, SCORES))
    description: OddAnswer = field(default_factory=lambda: OddAnswer(200, DESCRIPTION))
    asked: list[AskedOnce] = field(default_factory=list)
    key: str = ""

    @property
    def images(self) -> list[AskedOnce]:
        """The requests with an image."""
        return [item for item in self.asked if not item.describes]

    def answer(self, asked: AskedOnce) -> OddAnswer:
        self.asked.append(asked)
        if self.key and asked.headers.get("Authorization") != f"Bearer {self.key}":
            return OddAnswer(401, {"error": {"code": "unauthorised", "message": "the key is wrong"}})
        if asked.describes:
            return self.description
        return self.first.pop(0) if self.first else self.always


class _Handler(BaseHTTPRequestHandler):
    endpoint: OddEndpoint
    ended: threading.Event
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        answer = self.endpoint.answer(AskedOnce(self.path, dict(self.headers.items()), body))
        if answer.hang_up:
            self.close_connection = True
            return
        content = answer.content if isinstance(answer.content, bytes) else json.dumps(answer.content).encode()
        if answer.pause and not content:
            self.ended.wait(answer.pause)
        self.send_response(answer.status)
        for name, value in {"Content-Length": str(len(content) + answer.missing), **answer.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        tenth = len(content) // 10 + 1
        for start in range(0, len(content), tenth):
            if answer.pause:
                self.ended.wait(answer.pause)
            self.wfile.write(content[start : start + tenth])
        self.close_connection = self.close_connection or answer.missing > 0

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):  # the client had enough
            super().handle()

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@contextlib.contextmanager
def odd_endpoint() -> Iterator[OddEndpoint]:
    """Run one on a thread."""
    endpoint, ended = OddEndpoint(), threading.Event()
    handler = type("Handler", (_Handler,), {"endpoint": endpoint, "ended": ended})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    endpoint.url = f"http://127.0.0.1:{server.server_port}/score"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield endpoint
    finally:
        ended.set()
        server.shutdown()
        thread.join()
        server.server_close()
