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
        self._trying = False
        self._last: EndpointError | None = None

    @property
    def state(self) -> State:
        """As it is now; ``half_open`` from the end of the pause until the attempt has succeeded."""
        with self._lock:
            return self._state()

    def _state(self) -> State:
        if self._in_a_row < self._failures:
            return "closed"
        return "open" if self._clock() - self._opened < self._pause_s else "half_open"

    @contextlib.contextmanager
    def attempt(self) -> Iterator[None]:
        """Around one request.

        Raises:
            EndpointError: the circuit is open; code and message are those of the last outage, the status is 503.
        """
        with self._lock:
            state = self._state()
            if state == "open" or (state == "half_open" and self._trying):
                raise self._refusal()
            mine = self._trying = state == "half_open"
        try:
            yield
        except EndpointError as error:
            self._ended(error if error.outage else None, mine)
            raise
        except BaseException:  # not a fault of the endpoint, but the attempt is over
            with self._lock:
                self._trying = self._trying and not mine
            raise
        self._ended(None, mine)

    def _ended(self, outage: EndpointError | None, mine: bool) -> None:
        with self._lock:
            self._trying = self._trying and not mine
            if outage is None:
                self._in_a_row = 0
                return
            self._in_a_row += 1
            self._last = outage
            if self._in_a_row >= self._failures:
                self._opened = self._clock()

    def _refusal(self) -> EndpointError:
        left = max(1.0, self._pause_s - (self._clock() - self._opened))
        code, message = (
            (self._last.code, self._last.message) if self._last else ("endpoint_down", "It does not respond.")
        )
        return EndpointError(503, code, f"{message} The next attempt is in {left:.0f} s.", left)
