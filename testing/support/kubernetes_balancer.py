"""A load balancer of connections: each goes to one of the pods that are ready when it comes."""

from __future__ import annotations

import contextlib
import itertools
import socket
import threading
from collections.abc import Callable


class Balancer:
    """Listens on a port of this machine, and forwards.

    Args:
        port: To listen on.
        ready: Ports of the pods that are ready now.
    """

    def __init__(self, port: int, ready: Callable[[], list[int]]) -> None:
        self._ready, self._turn = ready, itertools.count()
        self._listener = socket.create_server(("127.0.0.1", port), backlog=128)
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)

    def _accept(self) -> None:
        while True:
            try:
                client, _address = self._listener.accept()
            except OSError:
                return
            ports = self._ready()
            try:
                pod = socket.create_connection(("127.0.0.1", ports[next(self._turn) % len(ports)]), 5)
            except (OSError, ZeroDivisionError):
                client.close()
                continue
            pod.settimeout(None)
            threading.Thread(target=_join, args=(client, pod), daemon=True).start()


def _join(client: socket.socket, pod: socket.socket) -> None:
    with client, pod:
        back = threading.Thread(target=_pipe, args=(pod, client), daemon=True)
        back.start()
        _pipe(client, pod)
        back.join()


def _pipe(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


def free_port() -> int:
    """A port that nothing listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
