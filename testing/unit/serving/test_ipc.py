"""What processes tell the one that started them, and how each notices the end of the other."""

from __future__ import annotations

import os
import socket

import pytest

from vision_mlops.core.errors import ServingError
from vision_mlops.serving.workers.ipc import IpcConnection, Message, ipc_pair


def test_messages_reach_the_parent_and_its_end_is_noticed() -> None:
    ours, theirs = ipc_pair()
    child = IpcConnection.inherited(os.dup(theirs.fileno()))
    theirs.close()
    assert not os.get_inheritable(child.fileno())
    assert child.send("bound", port=1)
    assert child.send("ready", problem="x" * 100_000)
    assert ours.receive() == Message("bound", {"port": 1})
    assert ours.receive() == Message("ready", {"problem": "x" * 8192})
    assert ours.receive() is None
    assert child.receive() is None
    ours.close()
    with pytest.raises(EOFError):
        child.receive()
    assert not child.send("bound", port=2)  # nobody hears it, and that is no error
    child.close()


def test_an_accepted_connection_is_handed_over() -> None:
    ours, theirs = ipc_pair()
    client, accepted = socket.socketpair()
    assert ours.send_connection(accepted)
    accepted.close()
    message = theirs.receive()
    assert message is not None
    assert message.descriptor is not None
    with socket.socket(fileno=message.descriptor) as received, client:
        received.sendall(b"hello")
        assert client.recv(5) == b"hello"
    ours.close()
    theirs.close()


def test_what_is_no_socket_is_refused() -> None:
    reading, writing = os.pipe()
    with pytest.raises(ServingError, match="is not a socket"):
        IpcConnection.inherited(reading)
    os.close(reading)
    os.close(writing)
