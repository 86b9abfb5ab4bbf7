"""Looking again and again at what changes elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator


def polls(seconds: float, first: float = 0.25, longest: float = 5.0) -> Iterator[bool]:
    """Pace a loop that waits for something: pauses between its rounds grow from ``first`` to ``longest`` seconds.

    Yields:
        Whether the time is up. Then this is the last round, so there is at least one.
    """
    deadline, pause = time.monotonic() + seconds, first
    while time.monotonic() < deadline:
        yield False
        time.sleep(pause)
        pause = min(1.5 * pause, longest)
    yield True
