"""Time of work, on a busy machine."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vision_mlops.core.work_timer import WorkTimer

LINUX = pytest.mark.skipif(not Path("/proc/thread-self/schedstat").exists(), reason="needs the scheduler's statistics")


def work() -> tuple[float, float]:
    """Milliseconds of a fixed piece of work, by the timer and by the clock."""
    began, timer = time.perf_counter(), WorkTimer()
    sum(number * number for number in range(150_000))
    return timer.milliseconds(), 1000 * (time.perf_counter() - began)


def test_sleep_counts_as_work() -> None:
    timer = WorkTimer()
    time.sleep(0.05)
    assert timer.milliseconds() >= 49


@pytest.mark.slow
@LINUX
def test_waiting_for_a_core_does_not_count() -> None:
    cores = len(os.sched_getaffinity(0))
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(3 * cores)]
    try:
        time.sleep(0.3)
        times = [work() for _ in range(15)]
    finally:
        for process in busy:
            process.kill()
            process.wait()
    worked, passed = (sorted(column)[7] for column in zip(*times, strict=True))
    assert worked < 0.7 * passed, "three of four cores' time went to others"


@LINUX
def test_the_files_of_threads_that_have_ended_are_closed() -> None:
    """In a process of its own: in this one, other tests have left threads whose files come and go."""
    assert_true_elsewhere(
        "import os, sys, threading; from vision_mlops.core.work_timer import WorkTimer\n"
        "def open_files(): return os.listdir('/proc/self/fd')\n"
        "WorkTimer(); before = open_files()\n"
        "threads = [threading.Thread(target=WorkTimer) for _ in range(20)]\n"
        "for thread in threads: thread.start()\n"
        "for thread in threads: thread.join()\n"
        "sys.exit(open_files() != before)"
    )


@LINUX
def test_a_child_does_not_read_the_statistics_of_its_parent() -> None:
    assert_true_elsewhere(
        "import os, sys; from vision_mlops.core.work_timer import WorkTimer, _OF_THREAD\n"
        "WorkTimer(); child = os.fork()\n"
        "if not child: os._exit(hasattr(_OF_THREAD, 'schedule'))\n"
        "sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))"
    )


def assert_true_elsewhere(program: str) -> None:
    subprocess.run([sys.executable, "-c", program], check=True)
