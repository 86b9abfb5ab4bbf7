"""Attempts: what fails for a reason that may pass is tried again, after a wait that grows each time."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from vision_mlops.storage.service_errors import RefusalError

if TYPE_CHECKING:
    from tenacity import RetryCallState

T = TypeVar("T")


class FileError(Exception):
    """One file cannot be transferred; the others can."""


class UnsettledError(FileError):
    """The content of one file changed while it was read, so that it is worth reading it again."""


@dataclass(frozen=True)
class StorageRetryPolicy:
    """How a request is retried.

    Attributes:
        attempts: Number of attempts for one request.
        first: Seconds of the first wait; each further wait is twice as long as the one before.
        longest: Seconds of the longest wait.
        silence: Seconds that a connection may be silent.
    """

    attempts: int = 8
    first: float = 0.5
    longest: float = 30.0
    silence: float = 60.0

    def repeat(
        self,
        call: Callable[[], T],
        passes: Callable[[BaseException], bool],
        attempts: Callable[[], int],
        rest: Callable[[float], None],
    ) -> T:
        """Call until it succeeds, or fails for a reason that does not pass.

        tenacity is only imported and used once something has failed: its import takes 50 ms, and a call through it 20 us
        of the 300 that a whole request takes.

        Args:
            call: What to do.
            passes: Whether the reason of an error may pass.
            attempts: Number of attempts; asked for after each.
            rest: Waits some seconds.

        Raises:
            Exception: what the last attempt raised.
        """
        try:
            return call()
        except Exception as error:
            if not passes(error) or attempts() < 2:
                raise
            failed = [error]
        from tenacity import Retrying, retry_if_exception, wait_exponential

        def attempt() -> T:
            if failed:
                raise failed.pop()
            return call()

        growing = wait_exponential(self.first, self.longest)

        def pause(state: RetryCallState) -> float:
            error = state.outcome.exception() if state.outcome else None
            asked = error.pause if isinstance(error, RefusalError) else None
            # Jitter, or all clients that were sent away come back at the same moment.
            return growing(state) * (0.5 + random.random()) if asked is None else asked

        retrying = Retrying(
            retry=retry_if_exception(passes),
            stop=lambda state: state.attempt_number >= attempts(),
            wait=pause,
            sleep=rest,
            reraise=True,
        )
        return retrying(attempt)
