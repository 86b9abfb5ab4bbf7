"""Calls that are repeated while the service is busy or cannot be reached."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception, stop_before_delay, wait_exponential

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

    It waits as long as the service asks for, else twice as long each time, up to 30 seconds.

    Args:
        call: What to do.
        say: Is told once that it waits, and once that it continues.
        seconds: How long to keep trying; then the last error is raised.
        first: Length of the first wait in seconds.
    """
    retrying = Retrying(
        retry=retry_if_exception(is_transient),
        stop=stop_before_delay(seconds),
        wait=lambda state: _pause(state, first),
        before_sleep=lambda state: say(_reason(state)) if state.attempt_number == 1 else None,
        reraise=True,
    )
    result = retrying(call)
    if retrying.statistics["attempt_number"] > 1:
        say("Azure responds again")
    return result


def _pause(state: RetryCallState, first: float) -> float:
    asked = retry_after(_error(state))
    # Jitter, or all clients that were sent away come back at the same moment.
    return asked if asked is not None else wait_exponential(first, _LONGEST_SECONDS)(state) * (0.5 + random.random())


def _reason(state: RetryCallState) -> str:
    return f"{str(_error(state)).splitlines()[0]}; trying again"


def _error(state: RetryCallState) -> BaseException:
    error = state.outcome.exception() if state.outcome else None
    assert error is not None  # tenacity asks after a failure only
    return error
