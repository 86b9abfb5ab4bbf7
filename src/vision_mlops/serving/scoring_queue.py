"""The bounded queue of a worker, and the thread that runs its requests one after the other."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any

from vision_mlops.serving.http.http_messages import RequestError

Done = Callable[[Any, Exception | None], None]


@dataclass(slots=True, eq=False)
class Job:
    """One request in the queue; ``abandoned`` tells the scorer that nobody waits for the response any more."""

    work: Callable[[Job], Any]
    done: Done
    submitted: float = field(default_factory=time.perf_counter)
    abandoned: bool = False

    def abandon(self) -> None:
        """Let the scorer pass over it."""
        self.abandoned = True


class AbandonedError(Exception):
    """The client has disconnected: its request was removed from the queue."""


class Scorer:
    """Runs jobs one after the other on a thread of its own; all other methods are called on the event loop.

    Not on the loop itself, which would have been the fastest by one percent: a health check must not wait for an inference.

    Args:
        limit: Maximum number of jobs that may be waiting or running.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.pending = 0
        """Jobs waiting or running."""
        self.busy_since: float | None = None
        """Monotonic time at which the running job began; None between jobs."""
        self._seconds = 0.01  # moving average of a job's duration
        self._queue: SimpleQueue[Job | None] = SimpleQueue()
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run, name="scorer", daemon=True)
        self._thread.start()

    def check_room(self) -> None:
        """Raise RequestError with 429 if no further job would be accepted; it says when there should be room."""
        if self.pending >= self.limit:
            seconds = max(1, round(self.pending * self._seconds))
            retry = ((b"retry-after", str(seconds).encode()),)
            raise RequestError(429, "too_many_requests", f"the queue is full; try again in {seconds} s", retry)

    def submit(self, work: Callable[[Job], Any], done: Done) -> Job:
        """Queue ``work``.

        Args:
            work: Called with the job, on the scorer's thread.
            done: Called on the event loop with the result, or with what ``work`` raised.

        Raises:
            RequestError: the limit is reached.
        """
        self.check_room()
        job = Job(work, done)
        self.pending += 1
        self._queue.put(job)
        return job

    def close(self) -> None:
        """End the thread once the queued jobs are done."""
        self._queue.put(None)

    def _run(self) -> None:
        while (job := self._queue.get()) is not None:
            self.busy_since = time.monotonic()
            outcome = self._outcome(job)
            self.busy_since = None
            try:
                self._loop.call_soon_threadsafe(self._finish, job, *outcome)
            except RuntimeError:
                return  # the loop is closed: nobody waits any more
            del job, outcome  # or the image would stay in memory until the next one comes

    def _outcome(self, job: Job) -> tuple[Any, Exception | None]:
        started = time.perf_counter()
        try:
            if job.abandoned:
                raise AbandonedError
            result = job.work(job)
        except Exception as error:  # noqa: BLE001 - handed to the one who waits, and the thread must go on
            return None, error
        finally:
            job.work = _nothing
        self._seconds += 0.1 * (time.perf_counter() - started - self._seconds)
        return result, None

    def _finish(self, job: Job, result: Any, error: Exception | None) -> None:
        self.pending -= 1
        done, job.done = job.done, _nothing
        done(result, error)


def _nothing(*_: Any) -> None:
    """Takes the place of what a job has done: it refers to the request, which refers to the job, and no image shall have
    to wait for the collector of such circles."""
