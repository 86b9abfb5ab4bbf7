"""An HTTPS proxy that only leads to loopback: it opens tunnels to the emulated services, and refuses every other host.

It sees no content, because TLS is between the client and the service. Requests without a proxy's form are those of a
browser that was pointed at the proxy itself; they get the page.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable
from urllib.parse import urlsplit

_CHUNK = 256 * 1024
_LONGEST_HEAD = 32 * 1024
_HEAD_SECONDS = 30.0


class ConnectProxy:
    """The proxy on a port of 127.0.0.1.

    Args:
        port_of: Returns the port of the service with a host name on this machine; None for hosts to refuse.
        page_port: Port of the page for browsers.
        port: Port on which it listens; 0 for any free port.

    Raises:
        OSError: the port is taken.
    """

    def __init__(self, port_of: Callable[[str], int | None], page_port: int, port: int = 0) -> None:
        self._port_of = port_of
        self._page_port = page_port
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._socket.bind(("127.0.0.1", port))
            self._socket.listen(256)
        except OSError:
            self._socket.close()
            raise
        self.port = int(self._socket.getsockname()[1])
        self._loop = asyncio.new_event_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True, name="connect-proxy")

    @property
    def url(self) -> str:
        """Return its address, as ``HTTPS_PROXY`` names it."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> ConnectProxy:
        """Accept connections."""
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(10)
        return self

    def stop(self) -> None:
        """Close all connections."""
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, sock=self._socket, limit=_LONGEST_HEAD)

    async def _close(self) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._answer(reader, writer)
        except (OSError, asyncio.CancelledError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # the client is gone or sent nothing valid, or the proxy is being closed
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), _HEAD_SECONDS)
        words = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ")
        method, target = (words[0], words[1]) if len(words) == 3 else ("", "")
        if target.startswith("/"):
            await self._tunnel(reader, writer, self._page_port, head)
            return
        host, port = _address(method, target)
        found = self._port_of(host) if method == "CONNECT" and port == 443 else None
        if found is None:
            await _refuse(writer, host or target)
            return
        await self._tunnel(reader, writer, found, b"")

    async def _tunnel(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int, sent: bytes) -> None:
        there, onward = await asyncio.open_connection("127.0.0.1", port)
        try:
            if sent:
                onward.write(sent)
            else:
                writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            await asyncio.gather(_pass_on(reader, onward), _pass_on(there, writer))
        finally:
            onward.close()


def _address(method: str, target: str) -> tuple[str, int]:
    """Return host and port that a client requests of a proxy; no host if the request is not understood."""
    try:
        parts = urlsplit(target if method != "CONNECT" else f"//{target}")
        return parts.hostname or "", parts.port or 80
    except ValueError:
        return "", 0


async def _refuse(writer: asyncio.StreamWriter, host: str) -> None:
    shown = "".join(letter for letter in host if letter.isprintable())[:200].encode("ascii", "replace").decode()
    reason = f"{shown} is not a service of Azure that is emulated here"
    body = f"{reason}. Nothing leaves this machine; to reach that host nevertheless, add it to NO_PROXY.\n".encode()
    head = (
        f"HTTP/1.1 403 {reason}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {len(body)}\r\n"
        "Connection: close\r\n\r\n"
    )
    writer.write(head.encode("ascii") + body)
    await writer.drain()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass bytes on until there are no more."""
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(_CHUNK):
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
