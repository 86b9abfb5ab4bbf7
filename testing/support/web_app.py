"""The web frontend as it is deployed, under gunicorn, and an endpoint before the real one that makes trouble on demand."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from vision_mlops.flask_app import gunicorn_settings

_LISTENING = re.compile(r"Listening at: (http://127\.0\.0\.1:\d+)")


@contextlib.contextmanager
def web_app(endpoint: str, **variables: str) -> Iterator[str]:
    """Run the app in a process of its own until the block ends.

    Args:
        endpoint: Address of the scoring endpoint.
        variables: Further settings, without ``MLOPS_APP_``.

    Yields:
        Its address.
    """
    settings = {"ENDPOINT": endpoint, "SECRET_KEY": "of the tests, 16 signs", **variables}
    command = [sys.executable, "-m", "gunicorn", "--config", "python:vision_mlops.flask_app.gunicorn_settings"]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [*command, "--bind", "127.0.0.1:0", gunicorn_settings.APP], stdout=log, stderr=log, start_new_session=True,
            env={**os.environ, **{f"MLOPS_APP_{name}": value for name, value in settings.items()}},
        )  # fmt: skip

        def written() -> str:
            return os.pread(log.fileno(), 100_000, 0).decode()

        try:
            deadline = time.monotonic() + 30
            while (found := _LISTENING.search(written())) is None or "Booting worker" not in written():
                assert process.poll() is None, written()
                assert time.monotonic() < deadline, written()
                time.sleep(0.02)
            yield found[1]
        finally:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(20)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@dataclass(frozen=True)
class Refusal:
    """What an image is answered with instead of a score."""

    status: int
    code: str
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass
class EndpointFront:
    """Passes requests on to a scoring server, as long as nothing else is wished.

    Attributes:
        url: Its address.
        port: Of the scoring server.
        down: Whether it hangs up on whoever asks.
        refusals: The next images get these, one each.
        images: Those that came in.
    """

    port: int
    url: str = ""
    down: bool = False
    refusals: list[Refusal] = field(default_factory=list)
    images: list[bytes] = field(default_factory=list)


class _Handler(BaseHTTPRequestHandler):
    front: EndpointFront
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.front.down:
            self.close_connection = True
            return
        if self.headers["Content-Type"].startswith("image/"):
            self.front.images.append(body)
            if self.front.refusals:
                refusal = self.front.refusals.pop(0)
                content = json.dumps({"error": {"code": refusal.code, "message": "by a test"}}).encode()
                self._answer(refusal.status, content, refusal.headers)
                return
        connection = http.client.HTTPConnection("127.0.0.1", self.front.port)
        with contextlib.closing(connection):
            kept = {name: value for name, value in self.headers.items() if name.lower() != "host"}
            connection.request("POST", self.path, body, kept)
            response = connection.getresponse()
            self._answer(response.status, response.read(), {})

    def _answer(self, status: int, content: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def handle(self) -> None:
        """Serve a connection; that the client goes away is nothing to report."""
        with contextlib.suppress(ConnectionError):
            super().handle()

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@contextlib.contextmanager
def endpoint_front(port: int) -> Iterator[EndpointFront]:
    """Run one before the scoring server at a port of this machine."""
    front = EndpointFront(port)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"front": front}))
    server.daemon_threads = True
    front.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield front
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def example_images() -> Path:
    """Folder of the images that ship with the repository."""
    return Path(__file__).parents[2] / "data" / "examples"
