"""The bounded queue of a worker, and what runs the requests in it one after the other."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any


class QueueFullError(Exception):
    """As many requests as allowed are waiting. ``retry_after_s``: when there should be room, in whole seconds."""

    def __init__(self, retry_after_s: int) -> None:
        super().__init__(f"the queue is full; try again in {retry_after_s} s")
        self.retry_after_s = retry_after_s


Done = Callable[[Any, BaseException | None], None]


class Job:
    """One request in the queue; ``abandoned`` tells the scorer that nobody waits for the answer any more."""

    __slots__ = ("abandoned", "done", "submitted", "work")

    def __init__(self, work: Callable[[Job], Any], done: Done) -> None:
        self.work = work
        self.done = done
        self.submitted = time.perf_counter()
        self.abandoned = False


class AbandonedError(Exception):
    """The client has gone: its request was taken off the queue."""


class Scorer:
    """Runs jobs in the order of their arrival, in two lanes.

    The quick lane is the event loop itself: one job an iteration, so that input and output go on between two of them. A
    thread would cost 4 % of the throughput, for the change of threads on every request. The slow lane is such a thread, for
    what would keep the loop from answering health checks. All methods but the thread's are called on the event loop.

    Args:
        limit: Most jobs that may be waiting or running.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.pending = 0
        """Jobs waiting or running, in both lanes."""
        self.busy_since: float | None = None
        """Monotonic time at which the running job of the slow lane began; None between jobs."""
        self._seconds = 0.01  # moving average of a job's duration
        self._quick: deque[Job] = deque()
        self._slow: SimpleQueue[Job | None] = SimpleQueue()
        self._loop = asyncio.get_running_loop()
        self._thread: threading.Thread | None = None

    def check_room(self) -> None:
        """Raise :class:`QueueFullError` where a further job would not be taken."""
        if self.pending >= self.limit:
            raise QueueFullError(max(1, round(self.pending * self._seconds)))

    def submit(self, work: Callable[[Job], Any], done: Done, *, quick: bool) -> Job:
        """Queue ``work``.

        Args:
            work: Called with the job.
            done: Called on the event loop with the result, or with what ``work`` raised.
            quick: It takes some milliseconds only, and may run on the event loop.

        Raises:
            QueueFullError: the limit is reached.
        """
        self.check_room()
        job = Job(work, done)
        self.pending += 1
        if quick:
            self._quick.append(job)
            if len(self._quick) == 1:
                self._loop.call_soon(self._run_quick)
        else:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run_slow, name="scorer", daemon=True)
                self._thread.start()
            self._slow.put(job)
        return job

    def close(self) -> None:
        """End the slow lane after the jobs that are queued."""
        self._slow.put(None)

    def _run_quick(self) -> None:
        job = self._quick[0]
        try:
            self._finish(job, *self._run(job))
        finally:
            self._quick.popleft()
            if self._quick:
                self._loop.call_soon(self._run_quick)

    def _run_slow(self) -> None:
        while (job := self._slow.get()) is not None:
            self.busy_since = time.monotonic()
            outcome = self._run(job)
            self.busy_since = None
            try:
                self._loop.call_soon_threadsafe(self._finish, job, *outcome)
            except RuntimeError:
                return  # the loop is closed: nobody waits any more

    def _run(self, job: Job) -> tuple[Any, BaseException | None]:
        started = time.perf_counter()
        try:
            if job.abandoned:
                raise AbandonedError
            result = job.work(job)
        except Exception as error:  # noqa: BLE001 - handed to the one who waits, and the lane must go on
            return None, error
        self._seconds += 0.1 * (time.perf_counter() - started - self._seconds)
        return result, None

    def _finish(self, job: Job, result: Any, error: BaseException | None) -> None:
        self.pending -= 1
        job.done(result, error)
