"""A proxy before Azurite that makes trouble on demand: broken connections, damaged bodies, refusals, silence.

With ``bearer`` it is also the part of storage that Azurite has on HTTPS only: it checks the token of each request and then
signs the request itself.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from azureml_emulator.identity.loopback_tokens import check
from azureml_emulator.rest.rest_calls import ServiceRefusalError
from azureml_emulator.storage.azurite import ACCOUNT, Azurite

AUDIENCE = "https://storage.azure.com"
Kind = Literal[
    "answer",
    "cut request",
    "cut answer",
    "lose answer",
    "damage request",
    "damage answer",
    "swap",
    "hold",
    "stall",
    "watch",
]
_HOP = frozenset({"connection", "transfer-encoding", "keep-alive", "content-length", "host"})


@dataclass
class Trouble:
    """What happens to some requests.

    Attributes:
        kind: ``answer`` with a status instead of passing it on; cut the connection in the middle of request or answer; do
            what is asked and ``lose`` the answer; damage a byte of either body; ``swap`` a text in the answer for another;
            ``hold`` it without passing it on, or ``stall`` in the middle of the answer; only ``watch``.
        method: Of the requests, such as ``PUT``; empty for all.
        part: Text in their path and query.
        times: How many.
        skip: So many are let through first.
        status: Of an answer.
        code: Of an answer, in the words of the service.
        headers: Of an answer.
        seconds: Of silence.
        swap: Texts to swap.
        before: Called when it strikes.
    """

    kind: Kind
    method: str = ""
    part: str = ""
    times: int = 1
    skip: int = 0
    status: int = 503
    code: str = "ServerBusy"
    headers: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    swap: tuple[bytes, bytes] = (b"", b"")
    before: Callable[[], None] = lambda: None
    struck: int = 0


@dataclass(frozen=True)
class Seen:
    """A request that came in."""

    method: str
    target: str
    headers: Mapping[str, str]


class Proxy:
    """The running proxy.

    Attributes:
        account_url: Address of the storage account by way of it.
        seen: All requests, oldest first.
    """

    def __init__(self, azurite: Azurite, bearer: Callable[[], str] | None) -> None:
        self.upstream = urlsplit(azurite.url)
        self.bearer = bearer
        self.account_url = ""
        self.seen: list[Seen] = []
        self.troubles: list[Trouble] = []
        self._lock = threading.Lock()

    def trouble(self, kind: Kind, **more: Any) -> Trouble:
        """Have some; see :class:`Trouble`."""
        made = Trouble(kind, **more)
        with self._lock:
            self.troubles.append(made)
        return made

    def calm(self) -> None:
        """No more trouble; forget what came in."""
        with self._lock:
            self.troubles.clear()
            self.seen.clear()

    def count(self, method: str, part: str = "") -> int:
        """Requests that came in so far."""
        with self._lock:
            return sum(item.method == method and part in item.target for item in self.seen)

    def take(self, method: str, target: str, headers: Mapping[str, str]) -> Trouble | None:
        """The trouble of a request that comes in."""
        with self._lock:
            self.seen.append(Seen(method, target, headers))
            for trouble in self.troubles:
                if trouble.method in ("", method) and trouble.part in target and trouble.struck < trouble.times:
                    if trouble.skip:
                        trouble.skip -= 1
                        continue
                    trouble.struck += 1
                    return trouble
        return None


class _Handler(BaseHTTPRequestHandler):
    proxy: Proxy
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def _serve(self) -> None:
        trouble = self.proxy.take(self.command, self.path, dict(self.headers.items()))
        if trouble is not None:
            trouble.before()
        length = int(self.headers.get("Content-Length") or 0)
        if trouble is not None and trouble.kind == "cut request":
            self.rfile.read(length // 2)
            self._cut()
            return
        body = self.rfile.read(length)
        if trouble is not None and trouble.kind == "answer":
            self._refuse(trouble.status, trouble.code, trouble.headers)
            return
        if trouble is not None and trouble.kind == "hold":
            time.sleep(trouble.seconds)
            self._cut()
            return
        if trouble is not None and trouble.kind == "damage request":
            body = _damaged(body)
        try:
            status, headers, content = self._upstream(body)
        except ServiceRefusalError as refusal:
            self._refuse(refusal.status, refusal.code, {})
            return
        if trouble is not None and trouble.kind == "damage answer":
            content = _damaged(content)
        if trouble is not None and trouble.kind == "swap":
            content = content.replace(*trouble.swap)
        if trouble is not None and trouble.kind == "lose answer":
            self._cut()
            return
        self.send_response_only(status)
        for name, value in headers:
            self.send_header(name, value)
        if self.command != "HEAD":
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        half = len(content) // 2
        if trouble is not None and trouble.kind in ("cut answer", "stall"):
            self.wfile.write(content[:half])
            time.sleep(trouble.seconds)
            self._cut()
            return
        self.wfile.write(content)

    do_GET = do_PUT = do_HEAD = do_DELETE = _serve  # noqa: N815

    def _upstream(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        target, headers = self.path, {name: value for name, value in self.headers.items() if name.lower() not in _HOP}
        if self.proxy.bearer is not None:
            check(headers.pop("Authorization", ""), (AUDIENCE,))
            target += ("&" if "?" in target else "?") + self.proxy.bearer()
        connection = http.client.HTTPConnection(self.proxy.upstream.hostname or "", self.proxy.upstream.port)
        with contextlib.closing(connection):
            connection.request(self.command, target, body, {**headers, "Content-Length": str(len(body))})
            answer = connection.getresponse()
            kept = [(name, value) for name, value in answer.getheaders() if name.lower() not in _HOP]
            if self.command == "HEAD":
                kept.append(("Content-Length", answer.getheader("Content-Length") or "0"))
            return answer.status, kept, answer.read()

    def _refuse(self, status: int, code: str, headers: Mapping[str, str]) -> None:
        content = (
            f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{code} on demand.\nTime:now</Message></Error>"
        )
        self.send_response_only(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0" if self.command == "HEAD" else str(len(content)))
        self.send_header("x-ms-error-code", code)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content.encode())

    def _cut(self) -> None:
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def handle(self) -> None:
        """Serve a connection; that the client goes away is nothing to report."""
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            super().handle()

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


def _damaged(body: bytes) -> bytes:
    """The bytes with another one in the middle."""
    half = len(body) // 2
    return body[:half] + bytes([body[half] ^ 255]) + body[half + 1 :] if body else body


@contextmanager
def proxied(azurite: Azurite, *, tls: Path | None = None, bearer: Callable[[], str] | None = None) -> Iterator[Proxy]:
    """Run a proxy before Azurite.

    Args:
        azurite: The running storage.
        tls: Folder for a certificate; then it is reached by https, and ``authority.pem`` in it is to be trusted.
        bearer: Gives signatures; then requests need a token for storage.
    """
    proxy = Proxy(azurite, bearer)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"proxy": proxy}))
    server.daemon_threads = True
    if tls is not None:
        import trustme

        tls.mkdir(parents=True, exist_ok=True)
        authority = trustme.CA()
        authority.cert_pem.write_to_path(tls / "authority.pem")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1", "localhost").configure_cert(context)
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    scheme = "http" if tls is None else "https"
    proxy.account_url = f"{scheme}://127.0.0.1:{server.server_port}/{ACCOUNT}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield proxy
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
