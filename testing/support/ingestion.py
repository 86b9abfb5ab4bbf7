"""Where traces go: the ingestion of Application Insights (``/v2.1/track``) and an OpenTelemetry collector (``/v1/traces``).

It answers as they do: 200 with the number of items, 206 where some are refused, and on demand 429 or 500, or nothing.
"""

from __future__ import annotations

import gzip
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = "00000000-0000-0000-0000-000000000000"


@dataclass
class Trouble:
    """What happens to the next request that carries items.

    Attributes:
        status: Of the answer; with 206, the items in ``refused`` are not accepted.
        headers: Of the answer.
        refused: Status by index of an item.
        seconds: Of silence before the answer.
    """

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    refused: dict[int, int] = field(default_factory=dict)
    seconds: float = 0.0


class Ingestion:
    """The running service.

    Attributes:
        url: Its address.
        accepted: Items of Application Insights that were accepted, oldest first.
        traces: Bodies of OTLP that were accepted.
        statuses: Of all answers.
        troubles: What happens to the next requests, one each.
    """

    def __init__(self) -> None:
        self.url = ""
        self.accepted: list[dict[str, Any]] = []
        self.traces: list[bytes] = []
        self.statuses: list[int] = []
        self.paths: list[str] = []
        self.troubles: list[Trouble] = []
        self.change = threading.Condition()

    @property
    def connection_string(self) -> str:
        """As the portal shows it."""
        return f"InstrumentationKey={KEY};IngestionEndpoint={self.url}/;LiveEndpoint={self.url}/"

    def wait(self, items: int, seconds: float = 10) -> list[dict[str, Any]]:
        """Items, once there are so many."""
        with self.change:
            assert self.change.wait_for(lambda: len(self.accepted) >= items, seconds), self.accepted
            return list(self.accepted)

    def wait_for_answers(self, number: int, seconds: float = 10) -> list[int]:
        """Statuses of the answers, once there are so many."""
        with self.change:
            assert self.change.wait_for(lambda: len(self.statuses) >= number, seconds), self.statuses
            return list(self.statuses)

    def take(self, path: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of the answer to a request."""
        with self.change:
            self.paths.append(path)
            trouble = self.troubles.pop(0) if self.troubles else Trouble()
        time.sleep(trouble.seconds)
        status, answer = trouble.status, b""
        with self.change:
            if path == "/v2.1/track":
                status, answer = self._track(body, trouble)
            elif path == "/v1/traces":
                if status == 200:
                    self.traces.append(body)
            else:
                status = 404
            self.statuses.append(status)
            self.change.notify_all()
        return status, trouble.headers, answer

    def _track(self, body: bytes, trouble: Trouble) -> tuple[int, bytes]:
        items = json.loads(body)
        if any(item["iKey"] != KEY for item in items):
            return 400, json.dumps({"itemsReceived": len(items), "itemsAccepted": 0, "errors": []}).encode()
        accepted = []
        if trouble.status in (200, 206):
            accepted = [item for index, item in enumerate(items) if index not in trouble.refused]
        errors = [
            {"index": index, "statusCode": status, "message": "refused"} for index, status in trouble.refused.items()
        ]
        self.accepted += accepted
        answer = {"itemsReceived": len(items), "itemsAccepted": len(accepted), "errors": errors}
        return trouble.status, json.dumps(answer).encode()


class _Handler(BaseHTTPRequestHandler):
    service: Ingestion
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else each body waits 40 ms for the acknowledgement of its head

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        status, headers, answer = self.service.take(self.path, body)
        try:
            self.send_response(status)
            for name, value in {"Content-Type": "application/json", **headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)
        except OSError:  # the client has given up
            self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@contextmanager
def ingesting() -> Iterator[Ingestion]:
    """Run the service on a free port of this machine; afterwards nothing answers there."""
    service = Ingestion()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"service": service}))
    server.daemon_threads = True
    server.block_on_close = False
    service.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield service
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
