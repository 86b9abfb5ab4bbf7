"""Faults that a test asks for: throttling, server errors, broken connections."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Literal

Kind = Literal["answer", "drop", "lose"]


@dataclass
class Fault:
    """What happens to the next calls of one collection."""

    collection: str
    times: int
    method: str = ""
    kind: Kind = "answer"
    status: int = 500
    code: str = "InternalServerError"
    message: str = "a fault that the test asked for"
    retry_after: float | None = None

    def matches(self, method: str, path: str) -> bool:
        """Whether it strikes a call."""
        there = self.collection == "*" or self.collection.lower() in path.lower().split("/")
        return there and self.method in ("", method)

    def headers(self) -> dict[str, str]:
        """Headers of its answer."""
        return {} if self.retry_after is None else {"Retry-After": f"{self.retry_after:g}"}


class Faults:
    """The faults that are still to come. ``collection`` is a name in the path, such as ``jobs``, or ``*`` for all."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: list[Fault] = []

    def throttle(self, collection: str, times: int = 1, retry_after: float = 0.05, method: str = "") -> None:
        """Answer 429 with Retry-After in seconds; the SDK takes 0 for its own, longer, waiting time."""
        message = "too many requests"
        self._add(Fault(collection, times, method, "answer", 429, "TooManyRequests", message, retry_after))

    def fail(
        self,
        collection: str,
        status: int = 500,
        times: int = 1,
        code: str = "",
        method: str = "",
        retry_after: float | None = 0.05,
    ) -> None:
        """Answer with an error of the server."""
        word = code or {500: "InternalServerError", 503: "ServiceUnavailable"}.get(status, "Error")
        self._add(Fault(collection, times, method, "answer", status, word, retry_after=retry_after))

    def drop(self, collection: str, times: int = 1, method: str = "") -> None:
        """Break the connection instead of answering."""
        self._add(Fault(collection, times, method, "drop"))

    def lose(self, collection: str, times: int = 1, method: str = "") -> None:
        """Do what is asked, and break the connection before the answer."""
        self._add(Fault(collection, times, method, "lose"))

    def take(self, method: str, path: str) -> Fault | None:
        """The fault for a call, which counts as used; None where none is waiting for it."""
        with self._lock:
            for fault in self._waiting:
                if fault.matches(method, path):
                    fault.times -= 1
                    if fault.times <= 0:
                        self._waiting.remove(fault)
                    return fault
        return None

    @property
    def pending(self) -> int:
        """How many are still to come."""
        with self._lock:
            return sum(fault.times for fault in self._waiting)

    def clear(self) -> None:
        """Forget all."""
        with self._lock:
            self._waiting.clear()

    def _add(self, fault: Fault) -> None:
        if fault.times < 1:
            raise ValueError("a fault happens at least once")
        with self._lock:
            self._waiting.append(fault)
