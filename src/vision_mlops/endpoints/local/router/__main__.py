"""The process of a router: ``python -m vision_mlops.endpoints.local.router FOLDER PORT REPORT``. `mlops deploy` starts it.

PORT is -1 for the first free one (:mod:`vision_mlops.endpoints.ports`), 0 for any free one. REPORT is a descriptor on which
it says, once, where it listens or why it does not.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import resource
import secrets
import signal
import socket
import sys
from dataclasses import replace
from pathlib import Path
from typing import TextIO

from vision_mlops.core.errors import DeploymentError
from vision_mlops.core.locks import HeldLock, take
from vision_mlops.endpoints.local.router.endpoint_state import KEY, LOCK, EndpointState, read_key, read_state, write_key
from vision_mlops.endpoints.local.router.router_admin import Control
from vision_mlops.endpoints.ports import first_port
from vision_mlops.serving.http.http_messages import Response
from vision_mlops.serving.telemetry.server_log import log_event, start_log, stop_log

_PORTS = 1000
_BACKLOG = 2048
_MOST_CONNECTIONS = 4096
_OTHER_DESCRIPTORS = 128
_held: list[HeldLock] = []  # the lock, which is to be let go by nothing but the end of the process


class _Full(asyncio.Protocol):
    """Tells a client that there are too many."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        body = Response.error(
            503, "too_many_connections", "the endpoint has as many connections as it may; try again"
        ).body
        head = b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nretry-after: 1\r\n"
        transport.write(head + b"content-length: %d\r\nconnection: close\r\n\r\n" % len(body) + body)
        transport.close()


def main(folder: Path, port: int, report: TextIO) -> int:
    """Serve an endpoint until told to end; returns the exit code."""
    lock = take(folder / LOCK)
    if lock is None:
        _tell(report, _of_another(folder))
        return 0
    _held.append(lock)
    try:
        (folder / LOCK).write_text(str(os.getpid()))
        state = read_state(folder)
        listener = _listen(folder, port, state)
        if not (folder / KEY).is_file():
            write_key(folder, secrets.token_urlsafe(32))
        key = read_key(folder)
    except (DeploymentError, OSError) as error:
        message, hint = (error.message, error.hint) if isinstance(error, DeploymentError) else (str(error), "")
        _tell(report, {"problem": message, "hint": hint})
        return 1
    bound = listener.getsockname()[1]
    state = EndpointState(folder.name, bound) if state is None else replace(state, port=bound)

    async def serve() -> None:
        await _serve(folder, state, key, listener, report)

    start_log()
    try:
        import uvloop
    except ImportError:  # no such thing on this system: slower, and the same
        asyncio.run(serve())
    else:
        uvloop.run(serve())
    stop_log()
    return 0


def _of_another(folder: Path) -> dict[str, object]:
    """What to report where another process is the router: the port that it listens on, once it has one."""
    try:
        state = read_state(folder)
    except DeploymentError as error:
        return {"problem": error.message, "hint": error.hint}
    if state is None:
        return {"problem": "another command is making this endpoint", "hint": "try again when it has ended"}
    return {"port": state.port}


async def _serve(folder: Path, state: EndpointState, key: str, listener: socket.socket, report: TextIO) -> None:
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
        _tell(report, {"port": state.port})
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


def _listen(folder: Path, port: int, state: EndpointState | None) -> socket.socket:
    """A listening socket on the port that is asked for, that the endpoint has, or that is free.

    Raises:
        DeploymentError: it is taken, or none is free.
    """
    if port < 0 and state is not None:
        return _bind(state.port, f"which endpoint {folder.name!r} has")
    if port >= 0:
        return _bind(port, "asked for with --port")
    kept = _kept_ports(folder.parent)
    ports = range(first_port(), min(first_port() + _PORTS, 2**16))
    for candidate in ports:
        if candidate not in kept:
            with contextlib.suppress(DeploymentError):
                return _bind(candidate, "")
    raise DeploymentError(f"no port from {ports[0]} to {ports[-1]} is free", "give --port 0 for any other")


def _bind(port: int, whose: str) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen(_BACKLOG)
    except (OSError, OverflowError) as error:
        listener.close()
        taken = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
        reason = "is taken by another program" if taken else f"cannot be used: {error}"
        raise DeploymentError(f"port {port}, {whose}, {reason}", "stop what uses it, or give another --port") from error
    return listener


def _kept_ports(endpoints: Path) -> set[int]:
    """Ports of the other endpoints, also of those that are stopped."""
    found = set()
    for folder in endpoints.iterdir():
        with contextlib.suppress(DeploymentError):
            state = read_state(folder)
            if state is not None:
                found.add(state.port)
    return found


def _most_connections() -> int:
    """How many clients there may be: each has one descriptor, and its request another one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * _MOST_CONNECTIONS + _OTHER_DESCRIPTORS
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return _MOST_CONNECTIONS if soft == resource.RLIM_INFINITY else max(16, (soft - _OTHER_DESCRIPTORS) // 2)


def _tell(report: TextIO, content: dict[str, object]) -> None:
    with contextlib.suppress(OSError), report:  # the command may have been ended meanwhile
        report.write(json.dumps(content))


if __name__ == "__main__":
    code = main(Path(sys.argv[1]), int(sys.argv[2]), os.fdopen(int(sys.argv[3]), "w"))
    sys.stderr.flush()
    os._exit(code)
