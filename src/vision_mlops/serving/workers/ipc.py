"""What the supervisor and a worker say to each other: small JSON messages, and accepted connections beside them."""

from __future__ import annotations

import array
import contextlib
import json
import socket
from dataclasses import dataclass, field
from typing import Any

_LARGEST = 64 * 1024
_LONGEST_TEXT = 8 * 1024


@dataclass(frozen=True, slots=True)
class Message:
    """One message. ``descriptor`` is the file descriptor that came with it, owned by the receiver, or None."""

    kind: str
    fields: dict[str, Any] = field(default_factory=dict)
    descriptor: int | None = None


class Channel:
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


def channel_pair() -> tuple[Channel, Channel]:
    """The supervisor's and the worker's end.

    Where the system has no SOCK_SEQPACKET (macOS), datagrams serve: there the end of a worker is seen by its signal, and
    that of the supervisor by the changed parent, as both look for anyway.
    """
    try:
        one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    except OSError:
        one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    return Channel(one), Channel(other)
