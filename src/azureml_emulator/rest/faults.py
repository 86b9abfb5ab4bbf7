"""Faults that a test requests: throttling, server errors, broken connections."""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass
from typing import Literal

Kind = Literal["answer", "drop", "lose"]


@dataclass
class Fault:
    """What happens to the next calls of one collection, or to those whose address matches a pattern."""

    collection: str
    times: int
    method: str = ""
    kind: Kind = "answer"
    status: int = 500
    code: str = "InternalServerError"
    message: str = "a planned fault"
    retry_after: float | None = None
    pattern: re.Pattern[str] | None = None

    def matches(self, method: str, path: str, host: str = "") -> bool:
        """Return whether it affects a call."""
        if self.pattern is not None:
            struck = self.pattern.fullmatch(path) or self.pattern.fullmatch(f"https://{host}{path}")
            return bool(struck) and self.method in ("", method)
        there = self.collection == "*" or self.collection.lower() in path.lower().split("/")
        return there and self.method in ("", method)

    def headers(self) -> dict[str, str]:
        """Return the headers of its response."""
        return {} if self.retry_after is None else {"Retry-After": f"{self.retry_after:g}"}


class Faults:
    """The remaining faults. ``collection`` is a name in the path, such as ``jobs``, or ``*`` for all."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: list[Fault] = []

    def throttle(self, collection: str, times: int = 1, retry_after: float = 0.05, method: str = "") -> None:
        """Respond with 429 and Retry-After in seconds; the SDK replaces 0 by its own, longer, waiting time."""
        message = "too many requests"
        self.add(Fault(collection, times, method, "answer", 429, "TooManyRequests", message, retry_after))

    def fail(
        self,
        collection: str,
        status: int = 500,
        times: int = 1,
        code: str = "",
        method: str = "",
        retry_after: float | None = 0.05,
    ) -> None:
        """Respond with an error of the server."""
        word = code or {500: "InternalServerError", 503: "ServiceUnavailable"}.get(status, "Error")
        self.add(Fault(collection, times, method, "answer", status, word, retry_after=retry_after))

    def drop(self, collection: str, times: int = 1, method: str = "") -> None:
        """Break the connection instead of responding."""
        self.add(Fault(collection, times, method, "drop"))

    def lose(self, collection: str, times: int = 1, method: str = "") -> None:
        """Do what is requested, and break the connection before the response."""
        self.add(Fault(collection, times, method, "lose"))

    def take(self, method: str, path: str, host: str = "", *, by_address: bool = False) -> Fault | None:
        """Return the fault for a call, which counts as used; None if there is none.

        Args:
            method: Method of the call.
            path: Path of the call.
            host: Host of the call.
            by_address: Whether to ignore faults for a collection, because the called service has no collections.
        """
        with self._lock:
            for fault in self._waiting:
                if by_address and fault.pattern is None:
                    continue
                if fault.matches(method, path, host):
                    fault.times -= 1
                    if fault.times <= 0:
                        self._waiting.remove(fault)
                    return fault
        return None

    @property
    def pending(self) -> int:
        """Return how many faults remain."""
        with self._lock:
            return sum(fault.times for fault in self._waiting)

    def clear(self) -> None:
        """Forget all."""
        with self._lock:
            self._waiting.clear()

    def add(self, fault: Fault) -> None:
        """Wait for the calls that it affects."""
        if fault.times < 1:
            raise ValueError("a fault happens at least once")
        with self._lock:
            self._waiting.append(fault)
