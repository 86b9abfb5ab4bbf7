"""A web server for tests: what it answers, and how badly, can be changed while it runs; it remembers what it was asked."""

from __future__ import annotations

import re
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Page:
    """What is at a path.

    Attributes:
        etag: Sent, and compared with ``If-None-Match`` and ``If-Range``.
        modified: ``Last-Modified``, compared with ``If-Range``.
        missing: Bytes of the content that are announced and do not come; with ``lies`` negative numbers announce less.
        chunked: Sent without a length, in chunks; the last one is missing where ``missing`` is not 0.
        ranges: Answers ``Range`` with 206, as file servers do.
        range_shift: Added to the start that it says and sends, for a server that answers another range.
        breaks: For the next requests, after how many bytes of the body the connection is closed.
        first: Statuses of the next answers, before the page itself is given.
        retry_after: Header of those answers.
        location: Of a redirect; ``status`` says which.
        pause: Seconds before each 16 kB of the body.
        headers: More headers.
    """

    content: bytes = b""
    etag: str = ""
    status: int = 200
    missing: int = 0
    chunked: bool = False
    modified: str = ""
    ranges: bool = False
    range_shift: int = 0
    breaks: list[int] = field(default_factory=list)
    first: list[int] = field(default_factory=list)
    retry_after: str = ""
    location: str = ""
    pause: float = 0.0
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Asked:
    """A request with the bytes of the body that it was sent."""

    path: str
    range: str | None
    if_range: str | None
    status: int = 0
    sent: int = 0


@dataclass
class Site:
    """Pages by path, the paths and conditions of all requests, and what each was sent."""

    pages: dict[str, Page] = field(default_factory=dict)
    requests: list[tuple[str, str | None]] = field(default_factory=list)
    log: list[Asked] = field(default_factory=list)
    address: str = ""

    def sent(self, path: str) -> int:
        """Bytes of all bodies from a path."""
        return sum(asked.sent for asked in self.log if asked.path == path)


class _Handler(BaseHTTPRequestHandler):
    site: Site
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else each body waits 40 ms for the acknowledgement of its head

    def do_GET(self) -> None:
        """Answer."""
        condition = self.headers.get("If-None-Match")
        asked = Asked(self.path, self.headers.get("Range"), self.headers.get("If-Range"))
        self.site.requests.append((self.path, condition))
        self.site.log.append(asked)
        page = self.site.pages.get(self.path, Page(b"there is no such page", status=404))
        self.close_connection = True
        if page.first:
            self._head(asked, page.first.pop(0), page, {"Content-Length": "0", "Retry-After": page.retry_after})
        elif page.location:
            self._head(asked, page.status, page, {"Location": page.location, "Content-Length": "0"})
        elif page.etag and condition == page.etag:
            self._head(asked, 304, page, {})
        else:
            self._give(asked, page)

    def _give(self, asked: Asked, page: Page) -> None:
        match = re.fullmatch(r"bytes=(\d+)-", asked.range or "")
        same = asked.if_range in (None, page.etag, page.modified)
        start, status, headers = 0, page.status, {}
        if match and page.ranges and same:
            start, total = int(match[1]) + page.range_shift, len(page.content)
            if start >= total:
                self._head(asked, 416, page, {"Content-Range": f"bytes */{total}", "Content-Length": "0"})
                return
            status, headers = 206, {"Content-Range": f"bytes {start}-{total - 1}/{total}"}
        body = page.content[start:]
        if page.chunked:
            headers["Transfer-Encoding"] = "chunked"
        else:
            headers["Content-Length"] = str(len(body) + page.missing)
        self._head(asked, status, page, headers)
        end = page.breaks.pop(0) if page.breaks else len(body)
        if page.chunked:
            self.wfile.write(f"{len(body) + page.missing:x}\r\n".encode())
        try:
            for offset in range(0, min(end, len(body)), 16384):
                time.sleep(page.pause)
                piece = body[offset : min(offset + 16384, end)]
                asked.sent += len(piece)  # first: the client may look as soon as it has the last one
                self.wfile.write(piece)
        except OSError:  # the client has gone
            return
        if page.chunked and not page.missing:
            self.wfile.write(b"\r\n0\r\n\r\n")

    def _head(self, asked: Asked, status: int, page: Page, headers: dict[str, str]) -> None:
        asked.status = status
        self.send_response(status)
        own = {"ETag": page.etag, "Last-Modified": page.modified, "Connection": "close"}
        for name, value in {**own, **headers, **page.headers}.items():
            if value:
                self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@contextmanager
def serving(site: Site, certificate: Any = None) -> Iterator[Site]:
    """Serve a site on a free port of this machine; afterwards nothing answers there.

    Args:
        site: Pages.
        certificate: Of trustme, for https.
    """
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"site": site}))
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate.configure_cert(context)
        # The handshake is left to the thread of the connection: here it would end the server where a client refuses it.
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    site.address = f"{'http' if certificate is None else 'https'}://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
