"""A circuit breaker: after some failures in a row no request is sent for a while, then one tries."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Literal

from vision_mlops.flask_app.app_errors import EndpointError

State = Literal["closed", "open", "half_open"]


class CircuitBreaker:
    """Keeps requests from a failing endpoint, so that they fail at once and the endpoint has time to recover.

    Args:
        failures: Number of outages in a row that open it.
        pause_s: Seconds for which it stays open; then one request is let through, whose result decides.
        clock: Seconds that never go back.
    """

    def __init__(self, failures: int = 5, pause_s: float = 10.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._failures, self._pause_s, self._clock = failures, pause_s, clock
        self._lock = threading.Lock()
        self._in_a_row = 0
        self._opened = 0.0
        self._probe = threading.Lock()  # held by the one request that is let through after the pause
        self._last: EndpointError | None = None

    @property
    def state(self) -> State:
        """As it is now; ``half_open`` from the end of the pause until the attempt has succeeded."""
        with self._lock:
            if self._in_a_row < self._failures:
                return "closed"
            return "open" if self._clock() - self._opened < self._pause_s else "half_open"

    @contextlib.contextmanager
    def attempt(self) -> Iterator[None]:
        """Wrap one request.

        Raises:
            EndpointError: the circuit is open; code and message are those of the last outage, the status is 503.
        """
        state = self.state
        alone = state == "half_open" and self._probe.acquire(blocking=False)
        if state != "closed" and not alone:
            raise self._refusal()
        try:
            yield
            self._note(None)
        except EndpointError as error:
            self._note(error if error.outage else None)
            raise
        finally:
            if alone:
                self._probe.release()

    def _note(self, outage: EndpointError | None) -> None:
        with self._lock:
            self._in_a_row = self._in_a_row + 1 if outage else 0
            self._last = outage or self._last
            if outage and self._in_a_row >= self._failures:
                self._opened = self._clock()

    def _refusal(self) -> EndpointError:
        left = max(1.0, self._pause_s - (self._clock() - self._opened))
        code, message = (
            (self._last.code, self._last.message) if self._last else ("endpoint_down", "It does not respond.")
        )
        return EndpointError(503, code, f"{message} The next attempt is in {left:.0f} s.", left)
