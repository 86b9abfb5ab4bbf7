"""Keeps the calls to a service within the number that it allows per second."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache

_SECOND = 1.05
"""A little longer, because two clocks never run at the same speed."""


@dataclass
class CallLimiter:
    """Limits the number of calls within any second, for any number of threads.

    A call counts until one second after its end, because the moment at which it reaches the service is unknown.

    Args:
        per_second: Number of calls that the service allows.
        clock: A monotonic clock, in seconds.
        sleep: Waits some seconds.
    """

    per_second: int
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep

    def __post_init__(self) -> None:
        self._free_from: queue.Queue[float] = queue.Queue()
        """For each call within a second, when the next one may begin; without calls in progress."""
        for _ in range(self.per_second):
            self._free_from.put(0.0)

    @contextmanager
    def call(self) -> Iterator[None]:
        """Wait until the next call may begin, which is made in the block."""
        wait = self._free_from.get() - self.clock()
        try:
            if wait > 0:
                self.sleep(wait)
            yield
        finally:
            self._free_from.put(self.clock() + _SECOND)


@cache
def limiter_of(endpoint: str, per_second: int) -> CallLimiter:
    """Return the limiter of an account, which all its callers in this process share."""
    return CallLimiter(per_second)
