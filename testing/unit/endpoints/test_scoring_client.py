"""Images reach an endpoint on this machine whatever proxy the environment names."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from vision_mlops.endpoints.contract import Access
from vision_mlops.endpoints.scoring_client import score
from vision_mlops.serving import server_health


class _Endpoint(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self._respond({"model": {"id": "abc"}})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self._respond({"predictions": [{"label": "good"}]})

    def _respond(self, content: object) -> None:
        body = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@pytest.fixture
def port() -> Iterator[int]:
    with HTTPServer(("127.0.0.1", 0), _Endpoint) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_no_proxy_is_used_on_this_machine(host: str, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    response = score(Access(f"http://{host}:{port}/score", {}), b"image")
    assert (response.status, response.label) == (200, "good")
    assert server_health.ask(f"http://{host}:{port}").bundle_id == "abc"
    elsewhere = score(Access(f"http://endpoint.example:{port}/score", {}), b"image")
    assert elsewhere.status == 0, "the proxy, which does not run, was asked for an address elsewhere"
