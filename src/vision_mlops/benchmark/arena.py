"""Runs contestants on one workload, one after the other: all learn the same images and are judged on the same others."""

from __future__ import annotations

import json
import logging
import os
import platform
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from vision_mlops.benchmark.benchmark_folder import Anew, BenchmarkFolder, WorkFolder
from vision_mlops.benchmark.benchmark_result import BenchmarkResult, ImageLatency, judged_table, measures
from vision_mlops.benchmark.code_version import code_version, in_a_service
from vision_mlops.benchmark.contestant import Contestant, Task
from vision_mlops.benchmark.contestant_answers import answers_of, predict_and_measure
from vision_mlops.benchmark.contestants import NamedContestant
from vision_mlops.config.workload import Workload
from vision_mlops.core.errors import ConfigError, DataError, MlopsError
from vision_mlops.core.hashing import Fingerprints
from vision_mlops.data.manifest import SPLITS, Manifest, read_manifest

_LOG = logging.getLogger(__name__)
Say = Callable[[str], None]


@dataclass
class BenchmarkRun:
    """The outcome of a run.

    Attributes:
        manifest: Manifest of the data.
        measured: Results of contestants that were trained and judged now.
        reused: Earlier results that are still valid.
        failed: Reasons of failures, by name.
        refused: Those errors among them that say that a setting is wrong.
    """

    manifest: Manifest
    measured: list[BenchmarkResult] = field(default_factory=list)
    reused: list[BenchmarkResult] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    refused: list[ConfigError] = field(default_factory=list)


class Arena:
    """A workload with its prepared data, on which contestants are compared.

    Args:
        workload: The workload.
        data: Its prepared data.
        say: Shows one line of progress.

    Raises:
        DataError: the data is not prepared, a split is empty, or an image has changed since.
    """

    def __init__(self, workload: Workload, data: Path, say: Say) -> None:
        self.workload = workload
        self.data = data.absolute()
        self.say = say
        self.manifest = read_manifest(self.data)
        self.folder = BenchmarkFolder(workload.name)
        _check_images(self.data, self.manifest)

    def run(self, entries: Sequence[NamedContestant], *, again: bool = False) -> BenchmarkRun:
        """Train and judge contestants. One that fails, whatever it raises, does not keep the others from running.

        Args:
            entries: Contestants that take part.
            again: Also run those whose earlier result is valid; what a contestant made in a service is removed first. The
                earlier result stays until there is another one. After an interruption, the next call continues such a run,
                whether it sets ``again`` or not.

        Raises:
            ConfigError: a setting that a contestant needs is missing; nothing has been trained then.
            MlopsError: another process is at work on the benchmark.
        """
        ended = BenchmarkRun(self.manifest)
        # What a contestant prints is for people: standard output has only the table.
        with self.folder.locked(), redirect_stdout(sys.stderr):
            entered = {entry.name: self._enter(entry) for entry in entries}
            if again:
                # Noted of each before the first begins: an interruption may come at any time.
                for name, found in entered.items():
                    if isinstance(found, dict):
                        self.folder.work(name, self.manifest.fingerprint, found).ask_anew()
            for number, entry in enumerate(entries, start=1):
                self.say(f"{entry.name} ({number} of {len(entries)})")
                found = entered[entry.name]
                if isinstance(found, BenchmarkResult):
                    self.say(f"  not set up here: recorded {found.recorded}")
                    ended.reused.append(found)
                    continue
                try:
                    if not isinstance(found, dict):
                        raise found
                    result, fresh = self._result_of(entry, found)
                except (Exception, SystemExit) as error:  # noqa: BLE001 - the class may be somebody's own
                    _LOG.debug("the contestant %s failed", entry.name, exc_info=True)
                    ended.failed[entry.name] = reason_of(error, entry.kind)
                    if isinstance(error, ConfigError):
                        ended.refused.append(error)
                    self.say(f"  failed: {ended.failed[entry.name]}")
                    continue
                (ended.measured if fresh else ended.reused).append(result)
        return ended

    def task(self, folder: Path, *, again: bool = False) -> Task:
        """Return what a contestant is given."""
        return Task(self.workload, self.data, self.manifest, folder, lambda text: self.say(f"  {text}"), again)

    def _enter(self, entry: NamedContestant) -> dict[str, Any] | BenchmarkResult | Exception | SystemExit:
        """Ask a contestant for its settings.

        Returns:
            The settings; or its imported result, if its service is not set up here; or why it cannot begin, which is
            reported in its turn.

        Raises:
            ConfigError: its service is not set up, and no result of this data was imported.
        """
        try:
            return _plain(entry.kind(self.task(self.folder.no_work)).settings())
        except ConfigError:
            known = self._known(entry.name)
            if known is not None and known.recorded and known.data_fingerprint == self.manifest.fingerprint:
                return known
            raise
        except (Exception, SystemExit) as error:  # noqa: BLE001 - the class may be somebody's own
            return error

    def _result_of(self, entry: NamedContestant, settings: dict[str, Any]) -> tuple[BenchmarkResult, bool]:
        """Return the result of a contestant, and whether it is new."""
        work = self.folder.work(entry.name, self.manifest.fingerprint, settings)
        code, anew = code_version(entry.kind), work.anew
        known = self._known(entry.name)
        holds = known is not None and known.is_of(self.manifest.fingerprint, settings, code)
        # A run on another machine says nothing about the time here, while a service is the same for everybody.
        if known is not None and holds and anew is None and (known.in_a_service or not known.recorded):
            self.say(f"  unchanged: measured {known.recorded or known.measured[:10]}")
            return known, False
        is_new = anew is Anew.ASKED or not work.exists
        if anew is Anew.BEGUN:
            self.say("  continuing the training that --again began")
        elif anew is Anew.ASKED and work.exists:
            entry.kind(self.task(work.own)).clean_up()
        work.begin(entry.reference, self.workload, self.data, self.manifest, anew=anew is Anew.ASKED)
        try:
            result = self._judge(entry, self.task(work.own, again=anew is not None), work, settings, code)
        except (Exception, SystemExit) as error:
            # Such an error before the contestant has recorded anything: it has created nothing that would have to be found.
            refused = is_new and isinstance(error, (ConfigError, DataError)) and not any(work.own.iterdir())
            if refused or not in_a_service(entry.kind):  # it starts over anyway, and has nothing to clean up
                work.remove()
                if anew is not None:
                    work.ask_anew()
            raise
        if result.in_a_service:
            work.end_anew()
        else:
            work.remove()
        return result, True

    def _judge(
        self, entry: NamedContestant, task: Task, work: WorkFolder, settings: dict[str, Any], code: str
    ) -> BenchmarkResult:
        contestant = entry.kind(task)
        began = time.perf_counter()
        contestant.fit()
        took = time.perf_counter() - began
        probabilities, latency = predict_and_measure(contestant, self.data, self.manifest, work)
        table = judged_table(self.manifest, probabilities)
        answers = answers_of(contestant)
        if answers["training_seconds"] is None:
            answers["training_seconds"] = took
        result = BenchmarkResult(
            name=entry.name,
            title=_line(contestant.title)[:200] or entry.name,
            hosted=contestant.hosted,
            workload=self.workload.name,
            data_fingerprint=self.manifest.fingerprint,
            classes=self.manifest.classes,
            settings=settings,
            code=code,
            measured=datetime.now(UTC).isoformat(timespec="seconds"),
            machine=f"{platform.system()} {platform.machine()}, {os.cpu_count()} processors",
            latency_ms=ImageLatency(**latency),
            metrics=measures(table, self.manifest.classes),
            **answers | {"remark": _line(answers["remark"])[:500]},
        )
        if (kept := self.folder.put(result, table)) is not None:
            self.say(f"  the earlier result, of other data or settings, is kept in {kept}")
        low, high = result.metrics["accuracy_interval"]
        self.say(f"  accuracy {result.metrics['accuracy']:.4f} (95% {low:.4f} to {high:.4f})")
        return result

    def _known(self, name: str) -> BenchmarkResult | None:
        """Return the existing result; a damaged one counts as none."""
        if name not in self.folder.names():
            return None
        try:
            return self.folder.read(name)[0]
        except DataError as error:
            self.say(f"  the earlier result cannot be used: {error.on_one_line()}")
            return None


def _check_images(data: Path, manifest: Manifest) -> None:
    for split in SPLITS:
        if not manifest.of_split(split):
            raise DataError(f"{data}: the split {split!r} has no images", "run `mlops data prepare` again")
    wanted = {record.path: record.sha256 for record in manifest.images}
    try:
        with Fingerprints() as fingerprints:
            found = fingerprints.each(data, wanted)
    except FileNotFoundError as error:
        raise DataError(f"{error.filename} is missing", "run `mlops data prepare` again") from error
    for path, digest in wanted.items():
        if found[path] != digest:
            raise DataError(
                f"{data / path} has changed since it was prepared", "prepare the data again, in a new folder"
            )


def _plain(settings: Any) -> dict[str, Any]:
    try:
        return dict(json.loads(json.dumps(dict(settings), allow_nan=False)))
    except (TypeError, ValueError) as error:
        raise MlopsError(
            f"settings() returned values that are not plain JSON: {error}", "return numbers and strings"
        ) from error


def reason_of(error: BaseException, kind: type[Contestant] | None = None) -> str:
    """Return why something failed, on one line; for an exception that is not ours, also where in the contestant's file."""
    if isinstance(error, MlopsError):
        return error.on_one_line()
    lines = str(error).strip().splitlines()
    text = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
    file = getattr(sys.modules.get(kind.__module__), "__file__", None) if kind else None
    places = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    return f"{text} ({Path(places[-1].filename).name}, line {places[-1].lineno})" if places else text


def _line(text: str) -> str:
    return " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())
