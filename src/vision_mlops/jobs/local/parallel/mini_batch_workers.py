"""Worker processes of a parallel step: started, sent mini-batches, listened to, and ended by their id."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Sequence
from multiprocessing import connection

from vision_mlops.jobs.local.parallel.entry_script_process import Answer, Script, serve
from vision_mlops.jobs.local.parallel.partitions import MiniBatch

_GRACE_SECONDS = 2.0
# Forked copies of a process with threads (torch, OpenVINO) can hang.
_CONTEXT = multiprocessing.get_context("spawn")


class MiniBatchWorker:
    """One process. It is busy from its start until the entry script's ``init`` has ended."""

    def __init__(self, script: Script) -> None:
        self._pipe, theirs = _CONTEXT.Pipe()
        self._process = _CONTEXT.Process(target=serve, args=(theirs, script))
        self._process.start()
        theirs.close()
        self.batch: MiniBatch | None = None
        self.ready = False
        self._sent = time.monotonic()

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid or 0

    @property
    def idle(self) -> bool:
        """Whether it can be sent a mini-batch."""
        return self.ready and self.batch is None

    @property
    def seconds(self) -> float:
        """How long it has been busy with what it was asked last."""
        return time.monotonic() - self._sent

    def send(self, batch: MiniBatch | None) -> None:
        """Ask for ``run(batch)``, or with None for ``shutdown()``. A process that has died answers by its silence."""
        self.batch = batch
        self._sent = time.monotonic()
        try:
            self._pipe.send(batch)
        except OSError:
            self._process.join(_GRACE_SECONDS)

    def receive(self) -> Answer | None:
        """The answer; None where the process has died. Call it for those that :func:`heard` names."""
        try:
            # Where only a program that the script has left behind holds the pipe open, recv would wait for ever.
            answer: Answer | None = self._pipe.recv() if self._pipe.poll() else None
        except (EOFError, OSError):
            answer = None
        if answer is None:
            self._process.join(_GRACE_SECONDS)
        self.ready = True
        return answer

    @property
    def answering(self) -> bool:
        """Whether :meth:`receive` returns at once."""
        return self._pipe.poll() or not self._process.is_alive()

    @property
    def exit_text(self) -> str:
        """How the process ended, in words."""
        code = self._process.exitcode
        return (
            f"its process was ended by signal {-code}" if code and code < 0 else f"its process ended with code {code}"
        )

    def wait(self) -> None:
        """Give the process, which has been asked to end, two seconds for what Python does at its exit."""
        self._process.join(_GRACE_SECONDS)

    def kill(self) -> None:
        """End the process at once."""
        self._process.kill()
        self._process.join()
        self._pipe.close()

    @staticmethod
    def end(workers: Sequence[MiniBatchWorker]) -> None:
        """Ask all processes to end (SIGTERM), and kill those that have not after two seconds."""
        for worker in workers:
            worker._process.terminate()
        limit = time.monotonic() + _GRACE_SECONDS
        for worker in workers:
            worker._process.join(max(0.0, limit - time.monotonic()))
            worker.kill()


def ready_workers(workers: Sequence[MiniBatchWorker], timeout: float) -> list[MiniBatchWorker]:
    """Workers that have answered or died; waits at most ``timeout`` seconds for one."""
    connection.wait([worker._pipe for worker in workers], timeout)
    return [worker for worker in workers if worker.answering]
