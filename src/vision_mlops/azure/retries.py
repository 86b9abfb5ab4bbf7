"""Calls that are made again while the service is busy or not reached."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TypeVar

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
    """Call again after throttling, faults of the service and lost connections, for calls that change nothing.

    Waits as long as the service asks for, else twice as long each time, up to 30 seconds.

    Args:
        call: What to do.
        say: Told once that it waits, and once that it goes on.
        seconds: How long to go on trying; then the last error is raised.
        first: Length of the first wait in seconds.
    """
    deadline, wait, waiting = time.monotonic() + seconds, first, False
    while True:
        try:
            result = call()
        except Exception as error:
            pause = retry_after(error)
            # Jitter, or all clients that were sent away come back at the same moment.
            pause = wait * (0.5 + random.random()) if pause is None else pause
            if not is_transient(error) or time.monotonic() + pause > deadline:
                raise
            if not waiting:
                say(f"{str(error).splitlines()[0]}; trying again")
            waiting, wait = True, min(2 * wait, _LONGEST_SECONDS)
            time.sleep(pause)
        else:
            if waiting:
                say("Azure answers again")
            return result
