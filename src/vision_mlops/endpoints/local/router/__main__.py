"""The process of a router: ``python -m vision_mlops.endpoints.local.router FOLDER SOCKET``. `mlops deploy` starts it.

SOCKET is the descriptor of the socket that it listens on, which the command has bound: the first response on it says that
the router runs, and a connection that is reset says that it has ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import socket
import sys
from dataclasses import replace
from pathlib import Path

from vision_mlops.core.errors import DeploymentError
from vision_mlops.core.locks import HeldLock, take
from vision_mlops.endpoints.local.router.endpoint_state import LOCK, EndpointState, read_key, read_state
from vision_mlops.endpoints.local.router.router_admin import Control
from vision_mlops.serving.http.http_messages import Response
from vision_mlops.serving.telemetry.server_log import log_event, start_log, stop_log

_BACKLOG = 2048
_MOST_CONNECTIONS = 4096
_OTHER_DESCRIPTORS = 128
_held: list[HeldLock] = []  # the lock, which only the end of the process releases


class _Full(asyncio.Protocol):
    """Refuses a client because there are too many connections."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        body = Response.error(
            503, "too_many_connections", "the endpoint has reached its limit of connections; try again"
        ).body
        head = b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nretry-after: 1\r\n"
        transport.write(head + b"content-length: %d\r\nconnection: close\r\n\r\n" % len(body) + body)
        transport.close()


def main(folder: Path, listener: socket.socket) -> int:
    """Serve an endpoint until it is told to end, and return the exit code.

    Raises:
        DeploymentError: another process is its router, or its state or key cannot be read.
    """
    lock = take(folder / LOCK)
    if lock is None:
        raise DeploymentError(f"another process is the router of endpoint {folder.name!r}", "end it first")
    _held.append(lock)
    (folder / LOCK).write_text(str(os.getpid()))
    state, key, port = read_state(folder), read_key(folder), listener.getsockname()[1]
    state = EndpointState(folder.name, port) if state is None else replace(state, port=port)

    async def serve() -> None:
        await _serve(folder, state, key, listener)

    start_log()
    try:
        import uvloop
    except ImportError:  # not available on this system: slower, but otherwise the same
        asyncio.run(serve())
    else:
        uvloop.run(serve())
    stop_log()
    return 0


async def _serve(folder: Path, state: EndpointState, key: str, listener: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    control = Control(folder, state, key)
    hub, most = control.app.hub, _most_connections()
    server = await loop.create_server(
        lambda: hub() if len(hub.connections) < most else _Full(), sock=listener, backlog=_BACKLOG
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, control.ending.set)
    try:
        if state.deployments:
            control.start()
        log_event("router_started", port=state.port, pid=os.getpid())
        while not control.ending.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await control.ending.wait()
            control.tick()
        server.close()
        await control.close()
        log_event("router_ended", pid=os.getpid())
    finally:
        control.kill()


def _most_connections() -> int:
    """Return how many clients may connect: each has one file descriptor, and its request another one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * _MOST_CONNECTIONS + _OTHER_DESCRIPTORS
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return _MOST_CONNECTIONS if soft == resource.RLIM_INFINITY else max(16, (soft - _OTHER_DESCRIPTORS) // 2)


if __name__ == "__main__":
    code = main(Path(sys.argv[1]), socket.socket(fileno=int(sys.argv[2])))
    sys.stderr.flush()
    os._exit(code)
