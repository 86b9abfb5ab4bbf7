"""Measures how long something takes by itself on a busy machine: without the time that its thread waits for a core.

The wall-clock time of an inference grows tenfold when others want the same cores, and then says little about the network.
Linux keeps for each thread how long it was ready to run and did not. Where it does not tell, this is the wall-clock time.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time


class WorkTimer:
    """Measures from when it is made, on the thread that makes it, which has to read it as well."""

    __slots__ = ("_began", "_processor", "_waited")

    def __init__(self) -> None:
        self._began, self._processor, self._waited = time.perf_counter(), time.thread_time(), _waited()

    def milliseconds(self) -> float:
        """Return the time so far, without what the thread waited for a core."""
        passed = time.perf_counter() - self._began
        # A wait that began before is counted whole where it ends, so the difference can be too small.
        return 1000 * max(time.thread_time() - self._processor, passed - (_waited() - self._waited))


class _Schedule:
    """The kernel's statistics of the thread that makes it."""

    def __init__(self) -> None:
        self._file: int | None = None
        with contextlib.suppress(OSError):  # no Linux, or one without these statistics
            self._file = os.open("/proc/thread-self/schedstat", os.O_RDONLY | os.O_CLOEXEC)

    def waited(self) -> float:
        """Return how many seconds the thread was ready to run without running; 0 if the kernel does not tell."""
        return int(os.pread(self._file, 64, 0).split()[1]) / 1e9 if self._file is not None else 0.0

    def __del__(self) -> None:
        if self._file is not None:
            os.close(self._file)


_OF_THREAD = threading.local()
if hasattr(os, "register_at_fork"):  # the thread that forks is another one in the child
    os.register_at_fork(after_in_child=lambda: _OF_THREAD.__dict__.clear())


def _waited() -> float:
    try:
        schedule: _Schedule = _OF_THREAD.schedule
    except AttributeError:
        schedule = _OF_THREAD.schedule = _Schedule()
    return schedule.waited()
