"""A longer way to a server on this machine: bytes arrive some milliseconds later, in both directions."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast
from urllib.parse import urlsplit


@contextmanager
def delayed(url: str, seconds: float) -> Iterator[str]:
    """An address that leads to a server after a delay each way; the same address where there is none.

    The delay is a process of its own, so that it takes no time of the client's.
    """
    if seconds <= 0:
        yield url
        return
    parts = urlsplit(url)
    words = [sys.executable, "-m", "testing.support.delay", parts.hostname or "", str(parts.port), str(seconds)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.terminate()


class _End(asyncio.Protocol):
    """One end of a connection: what comes in leaves by the other end, later."""

    def __init__(self, seconds: float, target: tuple[str, int] | None = None) -> None:
        self._seconds = seconds
        self._target = target
        self.other: _End | None = None
        self.transport: asyncio.Transport | None = None
        self._early: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._target is not None:
            self._task = asyncio.get_running_loop().create_task(self._connect(*self._target))
        for data in self._early:
            self.transport.write(data)

    async def _connect(self, host: str, port: int) -> None:
        other = self.other = _End(self._seconds)
        other.other = self
        await asyncio.get_running_loop().create_connection(lambda: other, host, port)

    def data_received(self, data: bytes) -> None:
        asyncio.get_running_loop().call_later(self._seconds, self._pass_on, data)

    def _pass_on(self, data: bytes) -> None:
        assert self.other is not None
        if self.other.transport is None:
            self.other._early.append(data)
        else:
            self.other.transport.write(data)

    def connection_lost(self, error: Exception | None) -> None:
        if self.other is not None and self.other.transport is not None:
            asyncio.get_running_loop().call_later(self._seconds, self.other.transport.close)


async def _serve(host: str, port: int, seconds: float) -> None:
    server = await asyncio.get_running_loop().create_server(lambda: _End(seconds, (host, port)), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))
