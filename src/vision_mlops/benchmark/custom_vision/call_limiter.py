"""Keeps calls of a service within the number that it allows a second."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

_MARGIN = 1.02
"""Calls that leave here evenly arrive a little less so."""


class CallLimiter:
    """Lets calls begin at even intervals, for any number of threads.

    Args:
        per_second: How many the service allows.
        clock: Seconds that only grow.
        sleep: Waits some seconds.
    """

    def __init__(
        self,
        per_second: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._interval = _MARGIN / per_second
        self._clock, self._sleep = clock, sleep
        self._next = 0.0
        self._lock = threading.Lock()

    def wait(self) -> None:
        """Wait until the next call may begin."""
        with self._lock:
            now = self._clock()
            begin = max(now, self._next)
            self._next = begin + self._interval
        if begin > now:
            self._sleep(begin - now)
