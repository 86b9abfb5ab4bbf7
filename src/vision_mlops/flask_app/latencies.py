"""How long the endpoint took over the last minutes, in the memory of this process."""

from __future__ import annotations

import statistics
import threading
import time
from collections import deque
from typing import Any, NamedTuple

MINUTES = 15
_MOST = 2000


class EndpointLatency(NamedTuple):
    """One request to the endpoint: when (seconds since 1970), how long in milliseconds, whether it was answered."""

    at: float
    ms: float
    ok: bool


class Latencies:
    """The requests of the last minutes; safe to use from many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seen: deque[EndpointLatency] = deque(maxlen=_MOST)

    def add(self, ms: float, *, ok: bool) -> None:
        """Record a request that has just ended."""
        with self._lock:
            self._seen.append(EndpointLatency(round(time.time(), 3), round(ms, 1), ok))

    def recent(self) -> list[EndpointLatency]:
        """Return those of the last :data:`MINUTES`, oldest first."""
        since = time.time() - 60 * MINUTES
        with self._lock:
            return [item for item in self._seen if item.at >= since]

    def summary(self) -> dict[str, Any]:
        """Return count, failures, and median and 95th percentile in milliseconds (None without a successful request)."""
        seen = self.recent()
        times = sorted(item.ms for item in seen if item.ok)
        return {
            "minutes": MINUTES,
            "requests": len(seen),
            "failures": len(seen) - len(times),
            "median_ms": round(statistics.median(times), 1) if times else None,
            "p95_ms": times[min(len(times) - 1, int(0.95 * len(times)))] if times else None,
        }
