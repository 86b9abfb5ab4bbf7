"""How the processes of a server talk: each has a socket to the one that started it, and messages of JSON go both ways.

The supervisor has one to each worker that it forks, and hands accepted connections over on it. A server that a router
starts inherits one, tells its port and whether it is ready, and drains when nobody holds the other end any more. That works
wherever there are sockets, also after a SIGKILL of the parent.
"""

from __future__ import annotations

import contextlib
import json
import socket
from dataclasses import dataclass, field
from typing import Any

from vision_mlops.core.errors import ServingError

_LARGEST = 64 * 1024
_LONGEST_TEXT = 8 * 1024


@dataclass(frozen=True, slots=True)
class Message:
    """One message. ``descriptor`` is the file descriptor that came with it, owned by the receiver, or None."""

    kind: str
    fields: dict[str, Any] = field(default_factory=dict)
    descriptor: int | None = None


class IpcConnection:
    """One end of a pair of sockets that keep the bounds of messages. Neither end ever waits for the other."""

    def __init__(self, end: socket.socket) -> None:
        self._socket = end
        end.setblocking(False)
        end.set_inheritable(False)

    @classmethod
    def inherited(cls, descriptor: int) -> IpcConnection:
        """Return the end that the parent process has left open. Raises ServingError where it is not a socket."""
        try:
            return cls(socket.socket(fileno=descriptor))
        except OSError as error:
            raise ServingError(f"file descriptor {descriptor} is not a socket", "remove --parent") from error

    def fileno(self) -> int:
        """Return the descriptor, for a selector."""
        return self._socket.fileno()

    def send(self, kind: str, **fields: Any) -> bool:
        """Send a message; return False if the other end has ended, or reads nothing any more."""
        return self._send(kind, fields, [])

    def send_connection(self, connection: socket.socket) -> bool:
        """Hand an accepted connection over; the caller closes its own copy. Returns as :meth:`send` does."""
        return self._send("connection", {}, [connection.fileno()])

    def _send(self, kind: str, fields: dict[str, Any], descriptors: list[int]) -> bool:
        short = {name: value[:_LONGEST_TEXT] if isinstance(value, str) else value for name, value in fields.items()}
        try:
            socket.send_fds(self._socket, [json.dumps({"kind": kind, **short}).encode()], descriptors)
        except OSError:
            return False
        return True

    def receive(self) -> Message | None:
        """Return the next message, or None if there is none at the moment.

        Raises:
            EOFError: the other end has ended.
        """
        try:
            data, descriptors, _flags, _address = socket.recv_fds(self._socket, _LARGEST, 1)
        except (BlockingIOError, InterruptedError):
            return None
        except OSError as error:
            raise EOFError from error
        if not data:
            raise EOFError
        content = json.loads(data)
        return Message(content.pop("kind"), content, descriptors[0] if descriptors else None)

    def close(self) -> None:
        """Close this end."""
        with contextlib.suppress(OSError):
            self._socket.close()


def ipc_pair() -> tuple[IpcConnection, IpcConnection]:
    """Return the parent's and the child's end.

    Where the system has no SOCK_SEQPACKET (macOS), datagrams serve: there the end of a child is seen by its signal, and
    that of a parent by the changed parent, as both look for anyway.
    """
    try:
        one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    except OSError:
        one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    return IpcConnection(one), IpcConnection(other)
