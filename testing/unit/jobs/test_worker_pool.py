"""The pool of worker processes: what a worker that dies, hangs or does not start means for the others."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from vision_mlops.jobs.local.parallel.worker_pool import StartError, WorkerPool


@dataclass
class Echo:
    """Answers with the task and its process; some tasks end the process, or hang."""

    refusal: str = ""
    start_code: int | None = None
    marks: Path | None = None

    def start(self) -> str | None:
        if self.start_code is not None:
            os._exit(self.start_code)
        if self.marks is not None:
            (self.marks / f"{os.getpid()}").touch()
        return self.refusal or None

    def work(self, task: str) -> tuple[str, int]:
        if task == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(60 if task == "hang" else 0)
        return task, os.getpid()

    def close(self) -> str:
        return "closed"


def ends(pool: WorkerPool[str], tasks: list[str]) -> list[tuple[Any, Any, str, bool]]:
    return [(end.task, end.answer and end.answer[0], end.problem, end.begun) for end in pool.results(tasks)]


def test_a_worker_that_dies_takes_only_its_own_tasks_with_it() -> None:
    with WorkerPool[str](Echo(), 1, limit=60, ahead=2) as pool:
        found = ends(pool, ["a", "die", "b", "c"])
    killed = "its process was ended by signal 9"
    # The worker had been given `b` already, but was not at it.
    assert found == [
        ("a", "a", "", True),
        ("die", None, killed, True),
        ("b", None, killed, False),
        ("c", "c", "", True),
    ]
    assert multiprocessing.active_children() == []


def test_a_task_can_be_done_again_before_the_others() -> None:
    seen = []
    with WorkerPool[str](Echo(), 1, limit=60) as pool:
        for end in pool.results(["die", "a"]):
            seen.append((end.task, bool(end.problem)))
            if end.task == "die" and len(seen) < 3:
                pool.again("b" if len(seen) == 2 else "die")
    assert seen == [("die", True), ("die", True), ("b", False), ("a", False)]


@pytest.mark.slow
def test_a_task_that_takes_too_long_is_ended_and_others_go_on() -> None:
    with WorkerPool[str](Echo(), 2, limit=1) as pool:
        found = ends(pool, ["hang", "a", "b"])
    assert ("hang", None, "it took longer than 1 seconds", True) in found
    assert {task for task, answer, *_ in found if answer} == {"a", "b"}


def test_each_worker_starts_once_and_is_closed(tmp_path: Path) -> None:
    with WorkerPool[str](Echo(marks=tmp_path), 2, limit=60) as pool:
        pids = {str(end.answer[1]) for end in pool.results(["a"] * 20)}
        closed = [end.answer for end in pool.close()]
    started = {path.name for path in tmp_path.iterdir()}
    assert pids <= started
    assert closed == ["closed"] * len(started)


@pytest.mark.slow
def test_a_service_that_refuses_or_dies_at_its_start_is_reported() -> None:
    with WorkerPool[str](Echo(refusal="no model"), 2, limit=60) as pool, pytest.raises(StartError) as refused:
        ends(pool, ["a"])
    assert refused.value.refusal == "no model"
    with WorkerPool[str](Echo(start_code=4), 1, limit=60, start_attempts=2) as pool:
        results = pool.results(["a", "b"])
        assert next(results).begun is False, "the first attempt is forgiven"
        with pytest.raises(StartError) as died:
            list(results)
    assert (died.value.refusal, died.value.reason) == (None, "its process ended with code 4")
    assert multiprocessing.active_children() == []
