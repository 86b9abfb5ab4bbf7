"""Scores all images of a folder into one table: list, score what is not done, keep it, and write the table at the end."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vision_mlops.batch.batch_journal import BatchJournal
from vision_mlops.batch.image_sources import FetchedImage, Images
from vision_mlops.batch.output_table import check_format, write_errors, write_table
from vision_mlops.batch.prediction_rows import Failed, Outcome, ScoringModel
from vision_mlops.batch.scoring_pool import scored
from vision_mlops.batch.scoring_service import ScoringService
from vision_mlops.core.cpu import available_cores
from vision_mlops.core.errors import DataError, MlopsError
from vision_mlops.core.text import counted
from vision_mlops.images.decoding import MAX_PIXELS
from vision_mlops.model.bundle import bundle_id, read_bundle

if TYPE_CHECKING:
    from vision_mlops.model.predictor import Precision

BATCH_SIZE = 4
"""Images that a process computes at once; more are no faster."""
_SUSPICIOUS = 32
_BATCH_BYTES = 64 * 2**20

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class BatchOptions:
    """How a batch is scored. 0 ``workers`` means one per core."""

    workers: int = 0
    batch_size: int = BATCH_SIZE
    precision: Precision = "auto"
    max_pixels: int = MAX_PIXELS
    restart: bool = False
    overwrite: bool = False


@dataclass(slots=True)
class BatchSummary:
    """What was done.

    Attributes:
        source: The folder.
        out: The table.
        errors_file: List of the images without a row; empty if all have one.
        model: Name, version and id.
        images: Number of all images that were listed.
        scored: Number of images that have a row.
        errors: Number of images that have none.
        resumed: Number of images that an interrupted run had scored.
        skipped: Files that are no images.
        skipped_files: The first of them, each with the reason.
        labels: How many images got each label.
        seconds: From the listing to the table.
        images_per_second: Rate of this run, without resumed images.
    """

    source: str
    out: str
    model: dict[str, str]
    errors_file: str = ""
    images: int = 0
    scored: int = 0
    errors: int = 0
    resumed: int = 0
    skipped: int = 0
    skipped_files: list[str] = field(default_factory=list)
    workers: int = 0
    batch_size: int = 0
    labels: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    images_per_second: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return all fields, ready for ``--json``."""
        return asdict(self) | {"seconds": round(self.seconds, 3), "images_per_second": round(self.images_per_second, 1)}


def partial_folder(out: Path) -> Path:
    """Return the folder in which an output is kept until it is complete."""
    return out.with_name(f"{out.name}.partial")


def errors_file(out: Path) -> Path:
    """Return the file that lists the images without a row."""
    return out.with_name(f"{out.name}.errors.csv")


def score(
    images: Images,
    bundle: Path,
    out: Path,
    *,
    name: str = "",
    version: str = "",
    options: BatchOptions | None = None,
    progress: Progress | None = None,
) -> BatchSummary:
    """Score all images with a bundle into a table.

    The same call continues an interrupted one. Rows have the order of the listing, and the table's bytes depend
    neither on the number of processes nor on interruptions.

    Args:
        images: Source of the images; closed at the end.
        bundle: The model.
        out: File with the suffix ``.csv`` or ``.parquet``.
        name: Name of the model in rows; that of the bundle if not given.
        version: Its registered version.
        options: How they are scored.
        progress: Called with the number of images that are done, and of all.

    Raises:
        DataError: there are no images, none of the first can be read, the output exists, or was started
            with another model or other options.
        BundleError: the bundle is broken.
        MissingExtraError: OpenVINO, or what writes Parquet, is not installed.
        AzureError: storage refuses a request, or cannot be reached.
    """
    options = options or BatchOptions()
    try:
        with closing(images):
            return _Scoring(images, bundle, out, name, version, options).run(progress or (lambda done, total: None))
    except _NothingReadableError:
        shutil.rmtree(partial_folder(out))  # it holds nothing, and would be in the way of a second try
        raise


class _Scoring:
    def __init__(self, images: Images, bundle: Path, out: Path, name: str, version: str, options: BatchOptions) -> None:
        check_format(out)
        if out.exists() and not options.overwrite:
            raise DataError(f"{out} already exists", "choose another --out, or replace it with --overwrite")
        described = read_bundle(bundle)
        self._classes = described.classes
        self._model = ScoringModel(name or described.name, version, bundle_id(described))
        self._images, self._out, self._options = images, out, options
        self._service = ScoringService(bundle.resolve(), options.precision, options.max_pixels)
        self._workers = options.workers or available_cores()
        self._folder = partial_folder(out)
        self._scored = self._failed = 0
        self._first = ""

    def run(self, progress: Progress) -> BatchSummary:
        begun = time.monotonic()
        model, options = self._model, self._options
        about = {
            "model": model.name, "version": model.version, "bundle": model.id, "source": self._images.address,
            "precision": options.precision, "max_pixels": str(options.max_pixels),
        }  # fmt: skip
        self._folder.mkdir(parents=True, exist_ok=True)
        with BatchJournal(self._folder / "journal.db", about, restart=options.restart) as journal:
            self._tidy()
            journal.list(self._images.listing())
            total, *_ = before = journal.counts()
            _, self._scored, self._failed = before
            if not total:
                raise _NothingReadableError(
                    f"{self._images.address} contains no images", "give a folder of .jpg, .png or other images"
                )
            self._score(journal, total, progress)
            return self._finish(journal, before, begun)

    def _tidy(self) -> None:
        """Remove what a killed run left beside its journal."""
        for path in self._folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif not path.name.startswith("journal.db"):
                path.unlink()

    def _score(self, journal: BatchJournal, total: int, progress: Progress) -> None:
        progress(self._scored + self._failed, total)
        if self._scored + self._failed < total:
            kept = self._folder / "images"
            kept.mkdir()
            with (
                closing(self._images.fetch(journal.todo(), kept)) as fetched,
                closing(scored(self._service, self._batches(fetched, journal), min(self._workers, total))) as results,
            ):
                for item, outcome in results:
                    self._images.release(item)
                    self._add(journal, item, outcome)
                    progress(self._scored + self._failed, total)
        self._check(total)

    def _batches(self, fetched: Iterable[FetchedImage], journal: BatchJournal) -> Iterator[list[FetchedImage]]:
        """Yield images in batches; those that could not be fetched are failures at once."""
        batch: list[FetchedImage] = []
        size = 0
        for item in fetched:
            if item.failed is not None:
                self._add(journal, item, item.failed)
                continue
            batch.append(item)
            size += item.listed.size
            if len(batch) == self._options.batch_size or size > _BATCH_BYTES:
                yield batch
                batch, size = [], 0
        if batch:
            yield batch

    def _add(self, journal: BatchJournal, item: FetchedImage, outcome: Outcome) -> None:
        journal.add(item.listed, outcome)
        if isinstance(outcome, Failed):
            self._failed += 1
            self._first = self._first or f"{outcome.code}, {outcome.message}"
            self._check(_SUSPICIOUS)
        else:
            self._scored += 1

    def _check(self, enough: int) -> None:
        """Refuse a folder of which nothing at all could be read: it is the wrong one."""
        if not self._scored and self._failed >= enough:
            raise _NothingReadableError(
                f"none of the first {counted(self._failed, 'image')} of {self._images.address} could be read;"
                f" the first: {self._first}",
                "check the folder; if only a few files are broken, move them elsewhere",
            )

    def _finish(self, journal: BatchJournal, before: tuple[int, int, int], begun: float) -> BatchSummary:
        total, scored, failed = journal.counts()
        if scored + failed != total:
            missing = counted(total - scored - failed, "image")
            raise MlopsError(f"{missing} without a result", "run the same command again")
        errors = errors_file(self._out)
        write_errors(errors, self._folder, journal.failed(), failed)
        labels = write_table(self._out, self._folder, journal.scored(), self._model, self._classes)
        shutil.rmtree(self._folder)
        seconds = time.monotonic() - begun
        resumed = before[1] + before[2]
        return BatchSummary(
            source=self._images.address, out=str(self._out), model=asdict(self._model),
            errors_file=str(errors) if failed else "", images=total, scored=scored, errors=failed, resumed=resumed,
            skipped=self._images.skipped.count, skipped_files=self._images.skipped.first, workers=self._workers,
            batch_size=self._options.batch_size, labels=labels,
            seconds=seconds, images_per_second=(total - resumed) / seconds if seconds > 0 else 0.0,
        )  # fmt: skip


class _NothingReadableError(DataError):
    """There are no images, or none of many can be read."""
