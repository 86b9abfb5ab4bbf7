"""The socket that a server of the command line listens on, and which addresses are those of this machine."""

from __future__ import annotations

import contextlib
import socket
from urllib.parse import urlsplit

from vision_mlops.core.errors import ServingError

LOOPBACK = ("127.0.0.1", "::1", "localhost")
_BACKLOG = 2048


def is_on_this_machine(url: str) -> bool:
    """Return whether an address is one of this machine, which no proxy reaches."""
    return urlsplit(url).hostname in LOOPBACK


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket; port 0 takes a free one. Raises ServingError."""
    try:
        family, kind, protocol, _name, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with contextlib.ExitStack() as failed:
            listener = failed.enter_context(socket.socket(family, kind, protocol))
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(_BACKLOG)
            failed.pop_all()
    except OSError as error:
        raise ServingError(
            f"cannot listen on {host}:{port}: {error.strerror}",
            "stop the program that uses it, or pass --port 0 for a free port",
        ) from error
    return listener


def url_of(host: str, port: int) -> str:
    """Return the address of a server as a browser accepts it."""
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"
