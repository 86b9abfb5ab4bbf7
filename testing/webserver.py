"""A web server for inputs of jobs: what it answers can be changed while it runs, and it remembers what it was asked."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Page:
    """What is at a path.

    Attributes:
        missing: Bytes of the content that are announced and do not come.
        chunked: Sent without a length, in chunks; the last one is missing where ``missing`` is not 0.
    """

    content: bytes = b""
    etag: str = ""
    status: int = 200
    missing: int = 0
    chunked: bool = False


@dataclass
class Site:
    """Pages by path, and the paths and conditions of all requests."""

    pages: dict[str, Page] = field(default_factory=dict)
    requests: list[tuple[str, str | None]] = field(default_factory=list)
    address: str = ""


class _Handler(BaseHTTPRequestHandler):
    site: Site
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer."""
        condition = self.headers.get("If-None-Match")
        self.site.requests.append((self.path, condition))
        page = self.site.pages.get(self.path, Page(b"there is no such page", status=404))
        self.close_connection = True
        if page.etag and condition == page.etag:
            self.send_response(304)
            self.end_headers()
            return
        self.send_response(page.status)
        if page.etag:
            self.send_header("ETag", page.etag)
        if page.chunked:
            self.send_header("Transfer-Encoding", "chunked")
        else:
            self.send_header("Content-Length", str(len(page.content) + page.missing))
        self.end_headers()
        if page.chunked:
            self.wfile.write(f"{len(page.content) + page.missing:x}\r\n".encode() + page.content)
            self.wfile.write(b"" if page.missing else b"\r\n0\r\n\r\n")
        else:
            self.wfile.write(page.content)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@contextmanager
def serving(site: Site) -> Iterator[Site]:
    """Serve a site on a free port of this machine; afterwards nothing answers there."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"site": site}))
    site.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
