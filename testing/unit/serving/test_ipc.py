"""What a server tells the process that started it."""

from __future__ import annotations

import os
import socket

import pytest

from vision_mlops.core.errors import ServingError
from vision_mlops.serving.workers.ipc import ParentProcess


def test_lines_reach_the_parent_and_its_end_is_noticed() -> None:
    ours, theirs = socket.socketpair()
    parent = ParentProcess(theirs.detach())
    assert not os.get_inheritable(parent.fileno())
    parent.tell(port=1)
    parent.tell(problem="")
    assert ours.recv(100) == b'{"port": 1}\n{"problem": ""}\n'
    assert not parent.has_ended()
    ours.close()
    assert parent.has_ended()
    parent.tell(port=2)  # nobody hears it, and that is no error
    parent.close()


def test_what_is_no_socket_is_refused() -> None:
    reading, writing = os.pipe()
    with pytest.raises(ServingError, match="is not a socket"):
        ParentProcess(reading)
    os.close(reading)
    os.close(writing)
