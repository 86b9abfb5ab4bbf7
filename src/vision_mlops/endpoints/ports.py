"""Ports of the loopback interface for endpoints on this machine."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Collection

from vision_mlops.core.errors import DeploymentError, ServingError
from vision_mlops.core.listening import listen

_DEFAULT = 8000
_VARIABLE = "MLOPS_SERVING__PORT"
_TRIED = 1000


def loopback_listener(
    port: int | None, whose: str = "asked for with --port", *, kept: Collection[int] = ()
) -> socket.socket:
    """Return a socket that listens on a port of 127.0.0.1.

    Args:
        port: Number of the port; 0 takes any free one, None the first free one from that of the serving settings on.
        whose: Where the number comes from, for the error.
        kept: Ports that are not taken where the number is left open.

    Raises:
        DeploymentError: the port is taken, or none is free.
    """
    if port is None:
        first = _first_port()
        ports = range(first, min(first + _TRIED, 2**16))
        for candidate in ports:
            if candidate not in kept:
                with contextlib.suppress(ServingError):
                    return listen("127.0.0.1", candidate)
        raise DeploymentError(f"no port from {ports[0]} to {ports[-1]} is free", "give --port 0 for any other port")
    try:
        return listen("127.0.0.1", port)
    except ServingError as error:
        cause = error.__cause__
        taken = isinstance(cause, OSError) and cause.errno == errno.EADDRINUSE
        reason = "is taken by another program" if taken else f"cannot be used: {cause}"
        raise DeploymentError(f"port {port}, {whose}, {reason}", "stop what uses it, or give another --port") from error


def _first_port() -> int:
    """Return the port in MLOPS_SERVING__PORT, else 8000. A value that is not a port, which a server refuses, is ignored."""
    text = os.environ.get(_VARIABLE, "")
    return int(text) if text.isdecimal() and 0 < int(text) < 2**16 else _DEFAULT
