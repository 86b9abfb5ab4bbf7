"""Scores images in several processes; if one of them ends its process, the images of its batch are tried one by one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Iterable, Iterator

from vision_mlops.batch.image_sources import FetchedImage
from vision_mlops.batch.prediction_rows import Failed, Outcome
from vision_mlops.batch.scoring_service import ScoringService
from vision_mlops.core.errors import MlopsError, require
from vision_mlops.jobs.local.parallel.worker_pool import StartError, TaskEnd, WorkerPool

_ATTEMPTS = 2
_OVERDUE_SECONDS = 300.0

Result = tuple[FetchedImage, Outcome]


def scored(
    service: ScoringService, batches: Iterable[list[FetchedImage]], size: int, *, overdue: float = _OVERDUE_SECONDS
) -> Generator[Result]:
    """Score all images; results come as they are made.

    An image that twice ends a process that has nothing else to do, by whatever it takes, is a failure of its own; the
    images that were with it are scored.

    Args:
        service: What each process does.
        batches: The images.
        size: How many processes.
        overdue: Seconds after which a batch counts as one that ended its process.

    Raises:
        MissingExtraError: OpenVINO is not installed.
        MlopsError: the model cannot be loaded.
    """
    require("openvino")
    deaths: Counter[bytes] = Counter()
    with WorkerPool[list[FetchedImage]](
        service, size, limit=overdue, start_limit=_OVERDUE_SECONDS, start_attempts=3, ahead=2
    ) as pool:
        try:
            for end in pool.results(batches):
                yield from _take(pool, end, deaths)
        except StartError as error:
            if error.refusal is not None:
                raise MlopsError(*error.refusal) from error
            raise MlopsError(
                f"a worker did not start: {error.reason} while it loaded the model",
                "try fewer --workers: memory may be short",
            ) from error


def _take(
    pool: WorkerPool[list[FetchedImage]], end: TaskEnd[list[FetchedImage]], deaths: Counter[bytes]
) -> Iterator[Result]:
    """Yield the results of a batch; if there are none, its images are tried one by one."""
    if isinstance(end.answer, list):
        yield from zip(end.task, end.answer, strict=True)
        return
    first = end.task[0].listed
    alone = len(end.task) == 1
    if not end.begun:
        pool.again(end.task)
    elif alone and end.answer:
        yield end.task[0], Failed("not_scored", f"{first.name}: {end.answer}")
    elif alone and deaths[first.key] >= _ATTEMPTS:
        yield end.task[0], Failed("killed_worker", f"{first.name}: {end.problem}")
    else:
        for item in end.task:
            deaths[item.listed.key] += 1
            pool.again([item])
