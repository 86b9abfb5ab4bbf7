"""The folder of a workload's benchmark: a folder for the result of each contestant, and hidden ones for work under way."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import Any

from vision_mlops.benchmark.benchmark_result import RESULT, BenchmarkResult, read_result, write_result
from vision_mlops.config.workload import Workload
from vision_mlops.core import locks, paths
from vision_mlops.core.errors import DataError, MlopsError
from vision_mlops.core.files import atomic_folder, atomic_write, remove_path
from vision_mlops.data.manifest import Manifest, read_manifest, write_manifest
from vision_mlops.evaluation.prediction_table import PredictionTable

REPORT = "report.html"
_WORK = ".work"
_FEATURES = ".features"
_EARLIER = ".earlier"
_LOGGED = ".logged"
_BEGUN = "begun.json"
_ANEW = "anew"
_KEPT_ROUND_TRIPS = "round_trips.json"


class Anew(Enum):
    """The progress of a training that `--again` asked for and that has no result yet."""

    ASKED = "asked"
    """What the contestant made before may still exist, completely or in part."""
    BEGUN = "begun"
    """Everything from before is removed."""


@dataclass(frozen=True, slots=True)
class WorkFolder:
    """The working files of a contestant for certain data and settings, kept until it has a result.

    Those of a contestant in a service stay, because they say what was made there.
    """

    path: Path

    @property
    def own(self) -> Path:
        """The contestant's own folder."""
        return self.path / "own"

    @property
    def exists(self) -> bool:
        """Whether :meth:`begin` was called."""
        return (self.path / _BEGUN).is_file()

    @property
    def anew(self) -> Anew | None:
        """What `--again` asked for and has no result yet; None if there is nothing of the kind."""
        try:
            return Anew((self.path / _ANEW).read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return None

    def ask_anew(self) -> None:
        """Note that `--again` asks for another training; do nothing if an earlier request has no result yet."""
        if self.anew is None:
            atomic_write(self.path / _ANEW, Anew.ASKED.value)

    def end_anew(self) -> None:
        """Note that what `--again` asked for has its result."""
        (self.path / _ANEW).unlink(missing_ok=True)

    def begin(self, reference: str, workload: Workload, data: Path, manifest: Manifest, *, anew: bool = False) -> None:
        """Record what it is about, so that `mlops benchmark clean` can find it; do nothing if that was done.

        Args:
            reference: Reference of the contestant.
            workload: The workload.
            data: Its prepared data.
            manifest: Manifest of the data.
            anew: Whether this is what `--again` asked for: what was kept here before is replaced.
        """
        if self.exists and not anew:
            self.own.mkdir(exist_ok=True)
            return
        begun = {
            "contestant": reference,
            "workload": workload.model_dump(mode="json"),
            "data": str(data),
            "begun": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        with atomic_folder(self.path, overwrite=True) as folder:
            write_manifest(folder, manifest)
            (folder / "own").mkdir()
            (folder / _BEGUN).write_text(json.dumps(begun, indent=2) + "\n", encoding="utf-8")
            if anew:
                (folder / _ANEW).write_text(Anew.BEGUN.value, encoding="utf-8")

    def begun(self) -> tuple[dict[str, Any], Manifest]:
        """Read what :meth:`begin` wrote. Raises DataError if it is damaged."""
        try:
            content = json.loads((self.path / _BEGUN).read_text(encoding="utf-8"))
            known = {key: str(content[key]) for key in ("contestant", "data", "begun")}
            return {**known, "workload": json.dumps(content["workload"])}, read_manifest(self.path)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"{self.path} does not record what was begun there: {error}",
                "look in the service for what the contestant made, and remove the folder",
            ) from error

    def round_trips(self) -> dict[str, float]:
        """Return the milliseconds of requests of a run that was interrupted, by the path of the image."""
        try:
            found = json.loads((self.path / _KEPT_ROUND_TRIPS).read_text(encoding="utf-8"))
            return {str(name): float(value) for name, value in found.items()}
        except (OSError, ValueError, AttributeError, TypeError):
            return {}

    def keep_round_trips(self, found: Mapping[str, float]) -> None:
        """Record them: what a resumed contestant predicts from its memory takes no request."""
        atomic_write(self.path / _KEPT_ROUND_TRIPS, json.dumps(dict(found)) + "\n")

    def remove(self) -> None:
        """Remove the folder."""
        remove_path(self.path)


class BenchmarkFolder:
    """The folder ``benchmarks/WORKLOAD`` below the home folder.

    Args:
        workload: Name of the workload.
    """

    def __init__(self, workload: str) -> None:
        self.workload = workload
        self.path = paths.home() / "benchmarks" / workload

    @property
    def report(self) -> Path:
        """Where the report is written if nothing else is said."""
        return self.path / REPORT

    @property
    def features(self) -> Path:
        """Folder of features that contestants share."""
        return self.path / _FEATURES

    @property
    def no_work(self) -> Path:
        """A folder that does not exist, for a contestant that is only asked for its settings."""
        return self.path / _WORK / "none"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes away, and remove incomplete files that a killed process left.

        Raises:
            MlopsError: another process is running.
        """
        refusal = MlopsError(f"another command is running a benchmark of {self.workload}", "wait until it has finished")
        with locks.locked(self.path / ".lock", refusal):
            for place in (self.path, *self.path.glob(f"{_WORK}/*")):
                for left in place.glob(".*.????????*/"):  # as core.files names folders that it writes
                    remove_path(left)
            yield

    def result_folder(self, name: str) -> Path:
        """Return the folder of the result of a contestant."""
        return self.path / name

    def work(self, name: str, fingerprint: str, settings: Mapping[str, Any]) -> WorkFolder:
        """Return where a contestant works on certain data with certain settings."""
        text = json.dumps([fingerprint, dict(settings)], sort_keys=True)
        return WorkFolder(self.path / _WORK / name / hashlib.sha256(text.encode()).hexdigest()[:12])

    def all_work(self) -> list[WorkFolder]:
        """Return what contestants have in progress or made in services, by name."""
        return [WorkFolder(path.parent) for path in sorted(self.path.glob(f"{_WORK}/*/*/{_BEGUN}"))]

    def names(self) -> list[str]:
        """Return the contestants that have a result, sorted."""
        return sorted(path.parent.name for path in self.path.glob(f"*/{RESULT}") if path.parent.name[0] != ".")

    def put(self, result: BenchmarkResult, table: PredictionTable) -> Path | None:
        """Write a result in place of an earlier one.

        Returns:
            Where the earlier one is now, if a service measured it on other data or with other settings: it cost money.
        """
        kept = self._set_aside(result)
        write_result(self.result_folder(result.name), result, table)
        return kept

    def mark_logged(self, name: str, store: str) -> None:
        """Note that a result is in a tracking store. The mark goes when the result is replaced."""
        atomic_write(self.result_folder(name) / _LOGGED, store + "\n")

    def is_logged(self, name: str, store: str) -> bool:
        """Return whether :meth:`mark_logged` was called for this result and store."""
        mark = self.result_folder(name) / _LOGGED
        return mark.is_file() and mark.read_text(encoding="utf-8", errors="replace").strip() == store

    def _set_aside(self, new: BenchmarkResult) -> Path | None:
        if new.name not in self.names():
            return None
        try:
            old, _ = self.read(new.name)
        except DataError:  # it is worth nothing
            return None
        if not old.in_a_service or old.is_of(new.data_fingerprint, new.settings, old.code):
            return None
        moment = datetime.fromisoformat(old.measured).strftime("%Y%m%dT%H%M%S")
        target = self.path / _EARLIER / f"{old.name}-{moment}"
        remove_path(target)  # the same result, kept before
        target.parent.mkdir(exist_ok=True)
        return self.result_folder(old.name).rename(target)

    def read(self, name: str) -> tuple[BenchmarkResult, PredictionTable]:
        """Read the result of a contestant. Raises DataError if it is damaged, or of another name or workload."""
        result, table = read_result(self.result_folder(name))
        if (result.name, result.workload) != (name, self.workload):
            raise DataError(
                f"{self.result_folder(name)} has the result of {result.name} on {result.workload}", "remove the folder"
            )
        return result, table
