"""Connections to a storage account: each thread keeps one open, which another thread can cut.

This uses plain :mod:`http.client`, which takes a quarter of a millisecond per request. The SDK's pipeline takes nearly two,
all of it in the interpreter. TLS, the authority to trust and the proxy are chosen as the SDK (through ``requests``) does.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import os
import socket
import ssl
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from email.message import Message
from urllib.parse import SplitResult, unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from vision_mlops.core.errors import ConfigError

CONNECT_SECONDS = 10.0
_CHUNK = 256 * 1024
_SMALL = 64 * 1024


@dataclass(frozen=True)
class StorageResponse:
    """The response of the service; ``content`` is complete, as none is larger than a block or a page of a listing."""

    status: int
    headers: Message
    content: bytes


class Connections:
    """The connections of all threads to one account.

    Args:
        account_url: Address of the account; only scheme, host and port are used.
        seconds: How long a connection may be silent.

    Raises:
        ConfigError: the proxy or the file of trusted certificate authorities in the environment cannot be used.
    """

    def __init__(self, account_url: str, seconds: float) -> None:
        self._parts: SplitResult = urlsplit(account_url)
        self._seconds = seconds
        self._context = _context() if self._parts.scheme == "https" else None
        self._proxy = _proxy(self._parts)
        self._local = threading.local()
        self._lock = threading.Lock()
        self._open: set[http.client.HTTPConnection] = set()
        self._cut = False

    def request(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes | memoryview = b""
    ) -> StorageResponse:
        """Send a request and read the whole response; redirects are not followed.

        Raises:
            OSError: the connection cannot be made, or breaks.
            http.client.HTTPException: the response is malformed or incomplete.
        """
        connection: http.client.HTTPConnection | None = getattr(self._local, "connection", None)
        if connection is not None:
            try:
                return self._exchange(connection, method, target, headers, body)
            except (http.client.RemoteDisconnected, ConnectionError):  # closed while it was idle
                if self._cut:
                    raise
        return self._exchange(self._connect(), method, target, headers, body)

    def cut(self) -> None:
        """Break all connections, so that threads waiting for a response get an error at once. None can be made later."""
        with self._lock:
            self._cut = True
            for connection in self._open:
                if connection.sock is not None:
                    with contextlib.suppress(OSError):
                        connection.sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close all connections; no thread may use one any more."""
        with self._lock:
            for connection in self._open:
                connection.close()
            self._open.clear()

    def _connect(self) -> http.client.HTTPConnection:
        host, port = self._parts.hostname or "", self._parts.port
        place = (self._proxy.hostname or "", self._proxy.port or 80) if self._proxy else (host, port)
        if self._context is None:
            connection = http.client.HTTPConnection(*place, timeout=CONNECT_SECONDS)
        else:
            connection = http.client.HTTPSConnection(*place, timeout=CONNECT_SECONDS, context=self._context)
        if self._proxy:
            connection.set_tunnel(host, port, _proxy_headers(self._proxy))
        with self._lock:
            if self._cut:
                raise ConnectionAbortedError("the transfer was stopped")
            self._open.add(connection)
        try:
            connection.connect()
            connection.sock.settimeout(self._seconds)
            with self._lock:
                if self._cut:  # in the meantime
                    raise ConnectionAbortedError("the transfer was stopped")
        except BaseException:
            self._drop(connection)
            raise
        self._local.connection = connection
        return connection

    def _exchange(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        target: str,
        headers: Mapping[str, str],
        body: bytes | memoryview,
    ) -> StorageResponse:
        whole = False
        size = {"Content-Length": str(len(body))} if method == "PUT" else {}
        # One timeout holds for one send: a large body goes in pieces, each with its own.
        view = memoryview(body)
        pieces = (view[start : start + _CHUNK] for start in range(0, len(view), _CHUNK))
        content = body if len(body) <= _SMALL else pieces
        try:
            sent = False
            # A server that refuses does not read to the end. Its response matters more; if there is none, that is the error.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                connection.request(method, target, content or None, {**headers, **size})
                sent = True
            response = connection.getresponse()
            found = StorageResponse(response.status, response.headers, response.read())
            whole = sent and not response.will_close
            return found
        finally:
            if not whole:
                self._drop(connection)

    def _drop(self, connection: http.client.HTTPConnection) -> None:
        self._local.connection = None
        with self._lock:
            self._open.discard(connection)
        connection.close()


def _context() -> ssl.SSLContext:
    """Create a context that trusts what the SDK trusts."""
    chosen = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE") or ""
    if not chosen:
        try:
            import certifi
        except ModuleNotFoundError:
            return ssl.create_default_context()
        return ssl.create_default_context(cafile=certifi.where())
    try:
        is_folder = os.path.isdir(chosen)  # noqa: PTH112
        return ssl.create_default_context(cafile=None if is_folder else chosen, capath=chosen if is_folder else None)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"the file of trusted certificate authorities {chosen!r} cannot be used: {error}",
            "fix or unset REQUESTS_CA_BUNDLE",
        ) from error


def _proxy(parts: SplitResult) -> SplitResult | None:
    from vision_mlops.storage.addresses import is_loopback

    host = parts.hostname or ""
    named = getproxies().get("https", "")
    if parts.scheme != "https" or not named or is_loopback(host) or proxy_bypass(host):
        return None
    try:
        proxy = urlsplit(named if "://" in named else f"http://{named}")
        usable = proxy.scheme == "http" and bool(proxy.hostname) and (proxy.port or 80) > 0
    except ValueError:
        usable = False
    if not usable:
        raise ConfigError("the proxy in HTTPS_PROXY cannot be used", "write it as http://HOST:PORT")
    return proxy


def _proxy_headers(proxy: SplitResult) -> dict[str, str]:
    if proxy.username is None:
        return {}
    text = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
    return {"Proxy-Authorization": f"Basic {base64.b64encode(text.encode()).decode()}"}
