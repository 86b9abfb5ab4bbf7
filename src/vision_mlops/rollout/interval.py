"""Tells when a recurring task is due."""

from __future__ import annotations

import time


class Interval:
    """A clock for one recurring task.

    Args:
        seconds: Time between two runs of the task; the first is due so long after this call.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._last = time.monotonic()

    def over(self, *, early: bool = False) -> bool:
        """Tell whether the task is due, and if so start the next interval.

        Args:
            early: It is due now, however long ago the last run was.
        """
        now = time.monotonic()
        if not early and now - self._last <= self._seconds:
            return False
        self._last = now
        return True
