"""A process that scores: it loads the model, then answers one task after the other until its pipe is closed."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import time
from collections import deque
from dataclasses import dataclass
from multiprocessing import connection
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from vision_mlops.core.errors import MissingExtraError, MlopsError
from vision_mlops.core.library_settings import keep_freed_memory

if TYPE_CHECKING:
    from vision_mlops.batch.prediction_rows import Outcome
    from vision_mlops.model.predictor import Precision

# Forked copies of a process with threads (OpenVINO, downloads) can hang.
_CONTEXT = multiprocessing.get_context("spawn")
# The system kills the largest process first; better one of these, which is noticed, than the one that holds the journal.
_OOM_SCORE = "300"


@dataclass(frozen=True, slots=True)
class ScoringSettings:
    """What a worker does: the bundle, how it computes, and the largest image that it decodes."""

    bundle: Path
    precision: Precision
    max_pixels: int


class ScoringTask(NamedTuple):
    """Images to score in one batch: what messages call each, and its file. ``number`` comes back with the answer."""

    number: int
    images: list[tuple[str, Path]]


class Started(NamedTuple):
    """The model is loaded."""


class Refused(NamedTuple):
    """The model cannot be loaded."""

    message: str
    hint: str


class TaskResult(NamedTuple):
    """Outcomes of a task in the order of its images; where they are None, the batch could not be computed."""

    number: int
    outcomes: list[Outcome] | None
    problem: str = ""


def work(pipe: connection.Connection, settings: ScoringSettings) -> None:
    """Serve a pipe. Ends when the other side closes it, also by dying."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group: the parent ends its workers
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_OOM_SCORE)
    # One core a process: the thread pools of the numeric libraries would only take memory.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    keep_freed_memory()
    from vision_mlops.batch.prediction_rows import score_images
    from vision_mlops.model.predictor import load_predictor

    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        try:
            predictor = load_predictor(settings.bundle, threads=1, precision=settings.precision)
        except MlopsError as error:
            pipe.send(Refused(error.message, error.hint))
            return
        pipe.send(Started())
        while True:
            task: ScoringTask = pipe.recv()
            try:
                outcomes = score_images(predictor, task.images, max_pixels=settings.max_pixels)
            except Exception as error:  # noqa: BLE001 - whatever it is, the images are tried one by one
                pipe.send(TaskResult(task.number, None, f"{type(error).__name__}: {error}"))
            else:
                pipe.send(TaskResult(task.number, outcomes))


class ScoringWorker:
    """One process, seen from the one that started it."""

    def __init__(self, settings: ScoringSettings) -> None:
        self.pipe, theirs = _CONTEXT.Pipe()
        self._process = _CONTEXT.Process(target=work, args=(theirs, settings), daemon=True)
        self._process.start()
        theirs.close()
        self.started = False
        self.tasks: deque[ScoringTask] = deque()
        self._since = time.monotonic()

    @property
    def seconds(self) -> float:
        """How long it has been busy with its first task, or with loading the model."""
        return time.monotonic() - self._since if self.tasks or not self.started else 0.0

    def send(self, task: ScoringTask) -> None:
        """Give it a task; where it has died, :meth:`receive` says so."""
        if not self.tasks:
            self._since = time.monotonic()
        self.tasks.append(task)
        with contextlib.suppress(OSError):
            self.pipe.send(task)

    def receive(self) -> TaskResult | None:
        """Its answer; None where the model has just been loaded, or the process has died: then ``alive`` is false.

        Raises:
            MlopsError: the model cannot be loaded.
        """
        try:
            message = self.pipe.recv()
        except (EOFError, OSError):
            self.kill()
            return None
        self._since = time.monotonic()
        if isinstance(message, Refused):
            raise MlopsError(message.message, message.hint)
        if isinstance(message, Started):
            self.started = True
            return None
        answer: TaskResult = message
        self.tasks.popleft()
        return answer

    @property
    def alive(self) -> bool:
        """Whether it can be given tasks."""
        return not self.pipe.closed

    @property
    def end(self) -> str:
        """How the process ended, in words."""
        code = self._process.exitcode
        return f"ended by signal {-code}" if code and code < 0 else f"ended with code {code}"

    def kill(self) -> None:
        """End the process at once, unless it has ended already."""
        self._process.kill()
        self._process.join()
        self.pipe.close()


def require_openvino() -> None:
    """Raise MissingExtraError where no worker could load a model."""
    import importlib.util

    if importlib.util.find_spec("openvino") is None:
        raise MissingExtraError("openvino", "serve")
