"""Locks between processes and threads: who has one, who waits, and what is left of one whose holder was killed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from vision_mlops.core import locks
from vision_mlops.core.errors import JobError, MlopsError

HOLD = """
import sys, time
from pathlib import Path
from vision_mlops.core import locks
held = locks.take(Path(sys.argv[1]))
print("held" if held else "refused", flush=True)
time.sleep(1000)
"""


def in_another_process(path: Path) -> subprocess.Popen[str]:
    """A process that holds a lock until it is killed."""
    child = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "held\n"
    return child


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "lock"


def test_one_holder_at_a_time(path: Path) -> None:
    """Also in one thread: what holds a lock cannot take it again by mistake."""
    assert not locks.is_taken(path)
    assert not path.parent.exists(), "a look makes nothing"
    held = locks.take(path)
    assert held is not None
    assert locks.is_taken(path)
    assert locks.take(path) is None
    held.lock.release()
    assert not locks.is_taken(path)
    with locks.locked(path, JobError("no")):
        assert locks.is_taken(path)
    assert not locks.is_taken(path)


def test_the_refusal_is_raised(path: Path) -> None:
    refusal = JobError("somebody else has it", "wait")
    with locks.locked(path, refusal), pytest.raises(JobError) as caught, locks.locked(path, refusal, wait=0.05):
        raise AssertionError("the lock was given twice")
    assert caught.value is refusal


def test_a_body_that_fails_lets_go(path: Path) -> None:
    with pytest.raises(KeyError), locks.locked(path, JobError("no")):
        raise KeyError
    assert not locks.is_taken(path)


def test_what_a_killed_process_held_is_free(path: Path) -> None:
    with in_another_process(path) as child:
        assert locks.is_taken(path)
        assert locks.take(path) is None
        child.kill()
        child.wait()
    assert not locks.is_taken(path)
    with locks.locked(path, JobError("no"), wait=5):
        pass


def test_waits_for_another_thread(path: Path) -> None:
    held = locks.take(path)
    assert held is not None
    timer = threading.Timer(0.2, held.lock.release)
    timer.start()
    with locks.locked(path, JobError("no"), wait=60):
        assert not timer.is_alive() or timer.finished.is_set()
    timer.join()


def test_threads_exclude_each_other(path: Path) -> None:
    inside, most = 0, 0

    def work() -> None:
        nonlocal inside, most
        for _ in range(20):
            with locks.locked(path, JobError("no"), wait=60):
                inside += 1
                most = max(most, inside)
                inside -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1


def test_the_holder_may_remove_the_folder(path: Path) -> None:
    """Whoever waits gets a lock on the file that is there then, and nobody else does."""
    held = locks.take(path)
    assert held is not None
    found: list[bool] = []

    def wait() -> None:
        with locks.locked(path, JobError("no"), wait=60):
            found.append(locks.is_taken(path))

    thread = threading.Thread(target=wait)
    thread.start()
    shutil.rmtree(path.parent)
    held.lock.release()
    thread.join()
    assert found == [True]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(MlopsError, match="cannot be written: Permission denied") as caught:
        locks.take(tmp_path / "folder" / "lock")
    assert "MLOPS_HOME" in caught.value.hint
    tmp_path.chmod(0o700)


def test_a_place_that_is_a_folder(tmp_path: Path) -> None:
    with pytest.raises(MlopsError, match="cannot be written"):
        locks.take(tmp_path)
