"""How the processes of a server talk: the supervisor with its workers, and the server with the process that started it.

Supervisor and worker exchange small JSON messages, and accepted connections beside them. The server tells its parent lines
of JSON over a socket of which it inherits an end; when nobody holds the other end any more, the server drains and ends. That
works wherever there are sockets, also after a SIGKILL of the parent.
"""

from __future__ import annotations

import array
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

    def fileno(self) -> int:
        """Descriptor for a selector."""
        return self._socket.fileno()

    def send(self, kind: str, **fields: Any) -> bool:
        """Send a message; False where the other end has ended, or reads nothing any more."""
        return self._send(kind, fields, ())

    def send_connection(self, connection: socket.socket) -> bool:
        """Hand an accepted connection over; the caller closes its own copy. False as for :meth:`send`."""
        return self._send("connection", {}, (connection.fileno(),))

    def _send(self, kind: str, fields: dict[str, Any], descriptors: tuple[int, ...]) -> bool:
        short = {name: value[:_LONGEST_TEXT] if isinstance(value, str) else value for name, value in fields.items()}
        data = json.dumps({"kind": kind, **short}).encode()
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
        try:
            self._socket.sendmsg([data], ancillary)
        except OSError:
            return False
        return True

    def receive(self) -> Message | None:
        """The next message, or None where there is none at the moment.

        Raises:
            EOFError: the other end has ended.
        """
        space = socket.CMSG_SPACE(array.array("i").itemsize)
        try:
            data, ancillary, _flags, _address = self._socket.recvmsg(_LARGEST, space)
        except (BlockingIOError, InterruptedError):
            return None
        except OSError as error:
            raise EOFError from error
        if not data:
            raise EOFError
        descriptor = None
        for _level, _type, payload in ancillary:
            descriptor = array.array("i", payload)[0]
        content = json.loads(data)
        return Message(content.pop("kind"), content, descriptor)

    def close(self) -> None:
        """Close this end."""
        with contextlib.suppress(OSError):
            self._socket.close()


def ipc_pair() -> tuple[IpcConnection, IpcConnection]:
    """The supervisor's and the worker's end.

    Where the system has no SOCK_SEQPACKET (macOS), datagrams serve: there the end of a worker is seen by its signal, and
    that of the supervisor by the changed parent, as both look for anyway.
    """
    try:
        one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    except OSError:
        one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    return IpcConnection(one), IpcConnection(other)


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
