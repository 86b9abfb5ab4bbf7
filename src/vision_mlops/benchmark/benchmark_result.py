"""The result of a contestant: ``result.json`` with its measures, and ``predictions.csv`` with a row for each test image."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import date, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from vision_mlops.benchmark.contestant import Probabilities
from vision_mlops.benchmark.contestants import NAME
from vision_mlops.config.workload import NAME as WORKLOAD_NAME
from vision_mlops.core.errors import DataError, problem_of_file
from vision_mlops.core.files import atomic_folder
from vision_mlops.data.manifest import Manifest
from vision_mlops.evaluation.metrics import summarise
from vision_mlops.evaluation.prediction_table import PredictionTable, read_predictions, write_predictions

RESULT = "result.json"
PREDICTIONS = "predictions.csv"
_COMPARED = ("images", "accuracy", "accuracy_interval", "macro_f1", "expected_calibration_error")
"""Measures that a file states and that have to follow from its predictions."""
_NOT_NEGATIVE = Field(ge=0.0, le=1e9, allow_inf_nan=False)
"""Far above any real duration or amount, so that a damaged number is not taken for one."""
_Amounts = dict[Annotated[str, Field(pattern=r"^[\w.-]{1,100}$")], Annotated[float, _NOT_NEGATIVE]]
_Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


def _one_line(text: str) -> str:
    """Check a text that is shown on a terminal, and may come from another team."""
    if not text.isprintable():
        raise ValueError("must be one line without control characters")
    return text


def _moment(text: str) -> str:
    datetime.fromisoformat(text)
    return text


def _day(text: str) -> str:
    if text:
        date.fromisoformat(text)
    return text


def _finite(settings: dict[str, Any]) -> dict[str, Any]:
    json.dumps(settings, allow_nan=False)
    return settings


_Line = Annotated[str, AfterValidator(_one_line)]


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class ImageLatency(_Record):
    """Milliseconds of one image at a time: median with its 99% interval, and the 95th percentile."""

    median: Annotated[float, _NOT_NEGATIVE]
    median_low: Annotated[float, _NOT_NEGATIVE]
    median_high: Annotated[float, _NOT_NEGATIVE]
    p95: Annotated[float, _NOT_NEGATIVE]
    images: Annotated[float, _NOT_NEGATIVE]


class UsedAmounts(_Record):
    """Amounts of a service by the key of the price: for learning, and for one prediction."""

    training: _Amounts = {}
    per_prediction: _Amounts = {}


class BenchmarkResult(_Record):
    """Content of ``result.json``."""

    schema_version: Literal[1] = 1
    name: Annotated[str, Field(pattern=rf"^{NAME}$")]
    title: Annotated[_Line, Field(max_length=200)]
    hosted: bool
    workload: Annotated[str, Field(pattern=rf"^{WORKLOAD_NAME}$")]
    data_fingerprint: _Digest
    classes: Annotated[list[str], Field(min_length=2)]
    settings: Annotated[dict[str, Any], AfterValidator(_finite)]
    code: Annotated[_Line, Field(max_length=200)]
    measured: Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00$"), AfterValidator(_moment)]
    machine: Annotated[_Line, Field(max_length=200)]
    training_seconds: Annotated[float, _NOT_NEGATIVE] | None
    size_bytes: Annotated[int, Field(ge=0, le=2**50)] | None
    latency_ms: ImageLatency
    usage: UsedAmounts | None = None
    remark: Annotated[_Line, Field(max_length=500)] = ""
    recorded: Annotated[str, Field(pattern=r"^(\d{4}-\d\d-\d\d)?$"), AfterValidator(_day)] = Field(
        "", description="Day on which the result was measured elsewhere, where it was imported."
    )
    metrics: dict[str, Any] = Field(description="Of vision_mlops.evaluation.metrics.summarise.")

    @property
    def in_a_service(self) -> bool:
        """Whether a service was used that costs money."""
        return self.hosted or self.usage is not None

    def is_of(self, fingerprint: str, settings: Mapping[str, Any], code: str) -> bool:
        """Return whether it is the result of a contestant with these settings and this code on that data."""
        plain = json.loads(json.dumps(dict(settings)))
        return (self.data_fingerprint, self.settings, self.code) == (fingerprint, plain, code)


def measures(table: PredictionTable, classes: list[str]) -> dict[str, Any]:
    """Return the measures of predictions that an evaluation has, too."""
    labels = np.array([classes.index(label) for label in table.labels], np.int64)
    return json.loads(json.dumps(summarise(labels, table.probabilities, classes)))  # type: ignore[no-any-return]


def judged_table(manifest: Manifest, probabilities: Probabilities) -> PredictionTable:
    """Return predictions of the test images, rounded as in the file, so that measures follow from the file alone."""
    records = manifest.of_split("test")
    return PredictionTable(
        [record.path for record in records], [record.label for record in records], np.round(probabilities, 6)
    )


def write_result(folder: Path, result: BenchmarkResult, table: PredictionTable) -> None:
    """Write both files, completely or not at all, in place of an earlier result."""
    with atomic_folder(folder, overwrite=True) as temporary:
        write_predictions(temporary / PREDICTIONS, table, result.classes)
        (temporary / RESULT).write_text(result.model_dump_json(indent=2) + "\n", encoding="utf-8")


def read_result(folder: Path) -> tuple[BenchmarkResult, PredictionTable]:
    """Read what :func:`write_result` wrote.

    Raises:
        DataError: a file is missing, is not understood, or the measures are not those of the predictions.
    """
    file = folder / RESULT
    try:
        result = BenchmarkResult.model_validate_json(file.read_text(encoding="utf-8"), strict=True)
        file = folder / PREDICTIONS
        table = read_predictions(file, result.classes)
        file = folder / RESULT
        return with_measures(result, table), table
    except (OSError, ValueError) as error:
        raise DataError(
            f"{file} is damaged: {problem_of_file(error)}", f"remove {folder} and run the benchmark again"
        ) from error


def with_measures(result: BenchmarkResult, table: PredictionTable) -> BenchmarkResult:
    """Return the result with the measures of its predictions, which are what counts.

    Raises:
        ValueError: a measure that the result states is another one.
    """
    found = measures(table, result.classes)
    for name in _COMPARED:
        if not _is_close(result.metrics.get(name), found[name]):
            raise ValueError(f"{name} is {result.metrics.get(name)!r}, but the predictions give {found[name]}")
    return result.model_copy(update={"metrics": found})


def _is_close(stated: object, found: float | list[float]) -> bool:
    """Return whether a value from a file is the number, or list of numbers, that was computed; false for NaN."""
    if isinstance(found, list):
        return (
            isinstance(stated, list)
            and len(stated) == len(found)
            and all(_is_close(a, b) for a, b in zip(stated, found, strict=True))
        )
    return isinstance(stated, int | float) and not isinstance(stated, bool) and abs(found - stated) <= 1e-6
