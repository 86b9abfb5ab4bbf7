"""What a server tells the process that started it, and how it notices that this one has ended.

Both over one socket, of which the server inherits an end: its lines are JSON objects, and when nobody holds the other end
any more, the server drains and ends. That works wherever there are sockets, also after a SIGKILL of the parent.
"""

from __future__ import annotations

import contextlib
import json
import socket

from vision_mlops.core.errors import ServingError


class ParentProcess:
    """The server's end.

    Args:
        descriptor: Of the socket, inherited.

    Raises:
        ServingError: it is no socket.
    """

    def __init__(self, descriptor: int) -> None:
        try:
            self._socket = socket.socket(fileno=descriptor)
        except OSError as error:
            raise ServingError(f"file descriptor {descriptor} is not a socket", "leave --parent out") from error
        self._socket.setblocking(False)
        self._socket.set_inheritable(False)

    def fileno(self) -> int:
        """Descriptor, readable when the parent has ended."""
        return self._socket.fileno()

    def tell(self, **fields: object) -> None:
        """Send a line; lost where the parent has ended."""
        with contextlib.suppress(OSError):
            self._socket.send(json.dumps(fields).encode() + b"\n")

    def has_ended(self) -> bool:
        """To be asked when the descriptor is readable."""
        try:
            return not self._socket.recv(4096)
        except BlockingIOError:
            return False
        except OSError:
            return True

    def close(self) -> None:
        """Let go of the socket, as a worker must: it is the supervisor's end that the parent watches."""
        self._socket.close()
