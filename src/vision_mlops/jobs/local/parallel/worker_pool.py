"""A pool of worker processes that fail alone: one that dies or takes too long loses only its own tasks.

Each worker has a pipe of its own. Pools whose workers share one (``concurrent.futures``, ``pebble``) break as a whole when a
worker is killed while it holds the lock of the pipe, or while it is idle; and neither reports how a worker failed to start,
nor lets each worker shut down in an orderly way.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import connection
from typing import Any, Generic, Protocol, TypeVar

# Forked copies of a process with threads (torch, OpenVINO, downloads) can hang.
_CONTEXT = multiprocessing.get_context("spawn")
_GRACE_SECONDS = 2.0
_LIVENESS_SECONDS = 1.0

Task = TypeVar("Task")


class Service(Protocol):
    """What a worker does. It is pickled and sent to each worker, where it is then started."""

    def start(self) -> Any:
        """Start; return None, or why no worker can do the work."""

    def work(self, task: Any) -> Any:
        """Do one task; return what the pool passes on as its answer."""

    def close(self) -> Any:
        """Shut down; return what the pool passes on as the answer."""


class StartError(Exception):
    """Raised if a worker did not start.

    Attributes:
        refusal: What the service's ``start`` returned; None if the process ended before that.
        reason: How the process ended, in words.
    """

    def __init__(self, refusal: Any, reason: str = "") -> None:
        super().__init__(reason)
        self.refusal = refusal
        self.reason = reason


@dataclass(frozen=True, slots=True)
class TaskEnd(Generic[Task]):
    """How a task ended.

    Attributes:
        task: The task; None for the end of a worker.
        answer: What the service returned; None if the worker ended before that.
        problem: Why there is no answer: how the worker ended, or that it took too long.
        begun: Whether the worker had begun with it; a task that only waited for its turn is not to blame.
        seconds: How long the worker took for the answer.
    """

    task: Task
    answer: Any = None
    problem: str = ""
    begun: bool = True
    seconds: float = 0.0


class WorkerPool(Generic[Task]):
    """A number of workers. Use it as a context manager, so that no process is left behind.

    Args:
        service: What each worker does.
        size: The largest number of workers; they are started as there is work for them.
        limit: Seconds after which a worker is killed, as if its task had ended it.
        start_limit: The same limit for the start of the service.
        start_attempts: Number of workers that may end before they have started; after that the pool gives up.
        ahead: Number of tasks that a worker is given at once, so that it need not wait for the next one.
        given: Told which task is given to the process with which id.
    """

    def __init__(
        self, service: Service, size: int, *,
        limit: float, start_limit: float = math.inf, start_attempts: int = 1, ahead: int = 1,
        given: Callable[[Task, int], None] = lambda task, pid: None,
    ) -> None:  # fmt: skip
        self._service, self._size, self._ahead, self._given = service, size, ahead, given
        self._limit, self._start_limit, self._start_attempts = limit, start_limit, start_attempts
        self._workers: list[_Worker] = []
        self._again: deque[Task] = deque()

    def __enter__(self) -> WorkerPool[Task]:
        return self

    def __exit__(self, *_: object) -> None:
        _end(self._workers)

    def results(self, tasks: Iterable[Task]) -> Iterator[TaskEnd[Task]]:
        """Do all tasks; yield how each ended, in that order.

        Raises:
            StartError: a worker did not start.
        """
        left = iter(tasks)
        while True:
            for room in range(1, self._ahead + 1):  # the emptiest first
                while self._has_room(room) and (task := self._next(left)) is not None:
                    self._give(task, room)
            if not self._busy:
                return
            yield from self._hear()

    def again(self, task: Task) -> None:
        """Retry a task, before those that have not been tried."""
        self._again.append(task)

    def close(self) -> Iterator[TaskEnd[None]]:
        """Let each worker shut down; yield how that ended."""
        for worker in self._workers:
            worker.send(None)
        while self._busy:
            yield from self._hear()
        for worker in self._workers:
            worker.process.join(_GRACE_SECONDS)  # for Python's own exit handlers

    @property
    def _busy(self) -> bool:
        return any(worker.tasks for worker in self._workers)

    def _next(self, left: Iterator[Task]) -> Task | None:
        return self._again.popleft() if self._again else next(left, None)

    def _has_room(self, room: int) -> bool:
        return len(self._workers) < self._size or self._free(room) is not None

    def _free(self, room: int) -> _Worker | None:
        """Return a worker with fewer tasks than ``room``; None if there is none."""
        return next((worker for worker in self._workers if len(worker.tasks) < room), None)

    def _give(self, task: Task, room: int) -> None:
        worker = self._free(room)
        if worker is None:
            worker = _Worker(self._service)
            self._workers.append(worker)
        self._given(task, worker.process.pid or 0)
        worker.send(task)

    def _hear(self) -> Iterator[TaskEnd[Any]]:
        overdue = [self._limit_of(worker) - worker.seconds for worker in self._workers if worker.busy]
        connection.wait([worker.pipe for worker in self._workers], max(0.0, min([*overdue, _LIVENESS_SECONDS])))
        for worker in list(self._workers):
            if worker.answering:
                yield from self._receive(worker)
            elif worker.busy and worker.seconds > (limit := self._limit_of(worker)):
                yield from self._bury(worker, f"it took longer than {limit:g} seconds")

    def _limit_of(self, worker: _Worker) -> float:
        return self._limit if worker.started else self._start_limit

    def _receive(self, worker: _Worker) -> Iterator[TaskEnd[Any]]:
        seconds = worker.seconds
        try:
            # If only a program that the worker left behind holds the pipe open, recv would wait forever.
            message = worker.pipe.recv() if worker.pipe.poll() else _NOTHING
        except (EOFError, OSError):
            message = _NOTHING
        worker.since = time.monotonic()
        if message is _NOTHING:
            worker.process.join(_GRACE_SECONDS)
            yield from self._bury(worker, worker.exit_text)
        elif worker.started:
            yield TaskEnd(worker.tasks.popleft(), message, seconds=seconds)
        elif message is None:
            worker.started = True
        else:
            raise StartError(message)

    def _bury(self, worker: _Worker, reason: str) -> Iterator[TaskEnd[Any]]:
        self._workers.remove(worker)
        worker.kill()
        if not worker.started:
            self._start_attempts -= 1
            if self._start_attempts <= 0:
                raise StartError(None, reason)
        for position, task in enumerate(worker.tasks):
            yield TaskEnd(task, problem=reason, begun=worker.started and position == 0)


_NOTHING = object()


class _Worker:
    """One process, as seen from the one that started it."""

    def __init__(self, service: Service) -> None:
        self.pipe, theirs = _CONTEXT.Pipe()
        self.process = _CONTEXT.Process(target=_serve, args=(theirs, service))
        self.process.start()
        theirs.close()
        self.started = False
        self.tasks: deque[Any] = deque()
        self.since = time.monotonic()

    @property
    def busy(self) -> bool:
        """Whether it is starting, or has a task."""
        return bool(self.tasks) or not self.started

    @property
    def seconds(self) -> float:
        """For how long it has been busy with its first task, or with its start."""
        return time.monotonic() - self.since

    def send(self, task: Any) -> None:
        """Give it a task; None asks it to shut down. A process that has died is noticed later."""
        if not self.busy:
            self.since = time.monotonic()
        self.tasks.append(task)
        with suppress(OSError):
            self.pipe.send(task)

    @property
    def answering(self) -> bool:
        """Whether it has answered, or never will."""
        return self.pipe.poll() or not self.process.is_alive()

    @property
    def exit_text(self) -> str:
        """How the process ended, in words."""
        code = self.process.exitcode
        if code is not None and code < 0:
            return f"its process was ended by signal {-code}"
        return f"its process ended with code {code}"

    def kill(self) -> None:
        """End the process at once."""
        self.process.kill()
        self.process.join()
        self.pipe.close()


def _end(workers: Sequence[_Worker]) -> None:
    """Ask all processes to end (SIGTERM), and kill those that are still running after two seconds."""
    for worker in workers:
        worker.process.terminate()
    limit = time.monotonic() + _GRACE_SECONDS
    for worker in workers:
        worker.process.join(max(0.0, limit - time.monotonic()))
        worker.kill()


def _serve(pipe: connection.Connection, service: Service) -> None:
    """Start a service and do tasks until None arrives. Runs in a process of its own."""
    _live_as_long_as_parent()
    # Ctrl-C reaches the whole process group, but the parent ends its workers. This is a function because SIG_IGN would be
    # inherited by programs that a worker starts.
    signal.signal(signal.SIGINT, lambda *_: None)
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):  # the parent has ended
        refusal = service.start()
        pipe.send(refusal)
        if refusal is None:
            while (task := pipe.recv()) is not None:
                pipe.send(service.work(task))
            pipe.send(service.close())


def _live_as_long_as_parent() -> None:
    """End this process when its parent has ended without notice, for example because it was killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        sentinel = parent.sentinel

        def watch() -> None:
            connection.wait([sentinel])
            os._exit(1)

        threading.Thread(target=watch, daemon=True).start()
