"""Keeps calls of a service within the number that it allows a second."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache

_SECOND = 1.05
"""A little longer, as two clocks do not run alike."""


class CallLimiter:
    """Lets so many calls be on their way within any second, for any number of threads.

    A call counts until a second after its end: when it has reached the service is not known, only that it was before.

    Args:
        per_second: How many the service allows.
        clock: Seconds that only grow.
        sleep: Waits some seconds.
    """

    def __init__(
        self,
        per_second: int,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._clock, self._sleep = clock, sleep
        self._free_from: queue.Queue[float] = queue.Queue()
        """For each call of a second, when the next one may take its place; none of those that are on their way."""
        for _ in range(per_second):
            self._free_from.put(0.0)

    @contextmanager
    def call(self) -> Iterator[None]:
        """Wait until the next call may begin; it is made within the block."""
        wait = self._free_from.get() - self._clock()
        try:
            if wait > 0:
                self._sleep(wait)
            yield
        finally:
            self._free_from.put(self._clock() + _SECOND)


@cache
def limiter_of(endpoint: str, per_second: int) -> CallLimiter:
    """The limiter of an account, which all of this process share that call it."""
    return CallLimiter(per_second)
