"""Calls that are repeated while the service is busy or cannot be reached."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception, stop_before_delay

from vision_mlops.azure.azure_errors import is_transient, retry_after

T = TypeVar("T")

PATIENCE_SECONDS = 600.0
_FIRST_SECONDS = 1.0
_LONGEST_SECONDS = 30.0


def retry_while_busy(
    call: Callable[[], T],
    say: Callable[[str], None],
    *,
    seconds: float = PATIENCE_SECONDS,
    first: float = _FIRST_SECONDS,
) -> T:
    """Repeat a call that changes nothing after throttling, faults of the service and lost connections.

    Waits as long as the service asks, else twice as long each time, up to 30 seconds.

    Args:
        call: What to do.
        say: Gets one message when it starts to wait, and one when it continues.
        seconds: How long to keep trying; then the last error is raised.
        first: Length of the first wait in seconds.
    """

    def pause(state: RetryCallState) -> float:
        asked = retry_after(_error(state))
        # Without jitter, all clients that were turned away come back at the same moment.
        wait = min(_LONGEST_SECONDS, first * 2.0 ** (state.attempt_number - 1)) * (0.5 + random.random())
        return wait if asked is None else asked

    def tell(state: RetryCallState) -> None:
        if state.attempt_number == 1:
            say(f"{str(_error(state)).splitlines()[0]}; trying again")

    attempts = Retrying(
        stop=stop_before_delay(seconds),
        retry=retry_if_exception(is_transient),
        wait=pause,
        before_sleep=tell,
        reraise=True,
    )
    result = attempts(call)
    if attempts.statistics["attempt_number"] > 1:
        say("Azure responds again")
    return result


def _error(state: RetryCallState) -> BaseException:
    """What made the last attempt fail."""
    found = state.outcome.exception() if state.outcome else None
    return found or TimeoutError()
