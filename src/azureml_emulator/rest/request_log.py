"""The received requests, with the status of each response."""

from __future__ import annotations

import threading
from dataclasses import dataclass


@dataclass(frozen=True)
class SeenRequest:
    """One received request, and its status; 0 if the connection was broken."""

    method: str
    path: str
    status: int


class RequestLog:
    """The requests since the last :meth:`clear`, oldest first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seen: list[SeenRequest] = []

    def note(self, method: str, path: str, status: int) -> None:
        """Record a request."""
        with self._lock:
            self._seen.append(SeenRequest(method, path, status))

    def seen(self, part: str = "", method: str = "") -> list[SeenRequest]:
        """Return the requests whose path contains a text, of one method or of all."""
        with self._lock:
            return [item for item in self._seen if part in item.path and method in ("", item.method)]

    def clear(self) -> None:
        """Forget all."""
        with self._lock:
            self._seen.clear()
