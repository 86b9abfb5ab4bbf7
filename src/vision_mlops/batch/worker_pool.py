"""Several workers at once: tasks go to whoever is free, and what a worker took with it when it died is tried alone."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from itertools import count
from multiprocessing import connection

from vision_mlops.batch.image_sources import FetchedImage
from vision_mlops.batch.prediction_rows import Failed, Outcome
from vision_mlops.batch.scoring_process import ScoringSettings, ScoringTask, ScoringWorker, TaskResult, require_openvino
from vision_mlops.core.errors import MlopsError

_AHEAD = 2  # tasks of a worker: it need not wait for the next one
_ATTEMPTS = 2
_START_ATTEMPTS = 3
_WAKE_SECONDS = 1.0
_OVERDUE_SECONDS = 300.0

Result = tuple[FetchedImage, Outcome]


class WorkerPool:
    """Worker processes. Use it as a context manager, so that none is left behind.

    Args:
        settings: What each does.
        size: How many.
        overdue: Seconds after which a task counts as one that killed its worker.
    """

    def __init__(self, settings: ScoringSettings, size: int, *, overdue: float = _OVERDUE_SECONDS) -> None:
        require_openvino()
        self._settings, self._size, self._overdue = settings, size, overdue
        self._workers: list[ScoringWorker] = []
        self._numbers = count()
        self._images: dict[int, list[FetchedImage]] = {}
        self._alone: deque[FetchedImage] = deque()
        self._deaths: dict[bytes, int] = {}
        self._failed_starts = 0

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.kill()

    def results(self, batches: Iterable[list[FetchedImage]]) -> Iterator[Result]:
        """Score all images; results come as they are made.

        An image that twice ends a process that has nothing else to do, by whatever it takes, is a failure of its own; the
        images that were with it are scored.

        Raises:
            MlopsError: the model cannot be loaded.
        """
        left = iter(batches)
        ended = False
        while True:
            if not ended:
                ended = self._deal(left)
            self._deal_alone()
            if not self._images and not self._alone and ended:
                return
            yield from self._hear()

    def _deal(self, batches: Iterator[list[FetchedImage]]) -> bool:
        """Give batches to all that have room, the emptiest first. True when none is left."""
        for room in range(1, _AHEAD + 1):
            while self._free(room) or self._may_start:
                batch = next(batches, None)
                if batch is None:
                    return True
                self._give(self._free(room) or self._start(), batch)
        return False

    def _deal_alone(self) -> None:
        while self._alone and (self._free(1) or self._may_start):
            self._give(self._free(1) or self._start(), [self._alone.popleft()])

    def _free(self, room: int) -> ScoringWorker | None:
        """A worker with fewer tasks than ``room``. One that tries an image alone gets none beside it."""
        return next(
            (worker for worker in self._workers if len(worker.tasks) < room and not self._has_suspect(worker)), None
        )

    @property
    def _may_start(self) -> bool:
        return len(self._workers) < self._size

    def _start(self) -> ScoringWorker:
        self._workers.append(ScoringWorker(self._settings))
        return self._workers[-1]

    def _has_suspect(self, worker: ScoringWorker) -> bool:
        return any(fetched.listed.key in self._deaths for task in worker.tasks for fetched in self._images[task.number])

    def _give(self, worker: ScoringWorker, batch: list[FetchedImage]) -> None:
        task = ScoringTask(next(self._numbers), [(item.listed.name, item.path) for item in batch])
        self._images[task.number] = batch
        worker.send(task)

    def _hear(self) -> Iterator[Result]:
        ready = connection.wait([worker.pipe for worker in self._workers], _WAKE_SECONDS)
        for worker in list(self._workers):
            if worker.pipe in ready:
                answer = worker.receive()
                if answer is not None:
                    yield from self._take(answer)
                elif not worker.alive:
                    yield from self._bury(worker, f"its process was {worker.end}")
            elif worker.seconds > (limit := self._overdue if worker.started else _OVERDUE_SECONDS):
                worker.kill()
                yield from self._bury(worker, f"it took longer than {limit:g} seconds")

    def _take(self, answer: TaskResult) -> Iterator[Result]:
        batch = self._images.pop(answer.number)
        if answer.outcomes is not None:
            for fetched in batch:
                self._deaths.pop(fetched.listed.key, None)
            yield from zip(batch, answer.outcomes, strict=True)
        elif len(batch) == 1:
            yield batch[0], Failed("not_scored", f"{batch[0].listed.name}: {answer.problem}")
        else:
            self._suspect(batch)

    def _bury(self, worker: ScoringWorker, reason: str) -> Iterator[Result]:
        """Try alone what a worker took with it, one after the other."""
        self._workers.remove(worker)
        if not worker.started:
            self._failed_starts += 1
            if self._failed_starts >= _START_ATTEMPTS:
                raise MlopsError(
                    f"a worker did not start: {reason} while it loaded the model",
                    "try fewer --workers: memory may be short",
                )
        for position, task in enumerate(worker.tasks):
            batch = self._images.pop(task.number)
            guilty = worker.started and position == 0
            if guilty and len(batch) == 1 and self._deaths.get(batch[0].listed.key, 0) >= _ATTEMPTS:
                self._deaths.pop(batch[0].listed.key)
                yield batch[0], Failed("killed_worker", f"{batch[0].listed.name}: {reason}")
            else:
                self._suspect(batch, guilty)

    def _suspect(self, batch: list[FetchedImage], guilty: bool = True) -> None:
        for fetched in batch:
            self._deaths[fetched.listed.key] = self._deaths.get(fetched.listed.key, 0) + guilty
            self._alone.append(fetched)
