"""What a contestant reached: ``result.json`` with its measures, and ``predictions.csv`` with a row for each test image."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from vision_mlops.benchmark.contestant import Probabilities
from vision_mlops.benchmark.contestants import NAME
from vision_mlops.config.workload import NAME as WORKLOAD_NAME
from vision_mlops.core.errors import DataError
from vision_mlops.core.files import atomic_folder
from vision_mlops.data.manifest import Manifest
from vision_mlops.evaluation.metrics import summarise
from vision_mlops.evaluation.prediction_table import PredictionTable, read_predictions, write_predictions

RESULT = "result.json"
PREDICTIONS = "predictions.csv"
_NOT_NEGATIVE = Field(ge=0.0, allow_inf_nan=False)
_Amounts = dict[Annotated[str, Field(pattern=r"^[\w.-]{1,100}$")], Annotated[float, _NOT_NEGATIVE]]
_Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


def _one_line(text: str) -> str:
    """Check a text that is shown on a terminal, and may come from another team."""
    if not text.isprintable():
        raise ValueError("must be one line without control characters")
    return text


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
    """Of a service, by the key of the price: what learning used, and what a prediction uses."""

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
    settings: dict[str, Any]
    code: str
    measured: Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\dT[\d:+]+$")]
    machine: Annotated[_Line, Field(max_length=200)]
    training_seconds: Annotated[float, _NOT_NEGATIVE] | None
    size_bytes: Annotated[int, Field(ge=0)] | None
    latency_ms: ImageLatency
    usage: UsedAmounts | None = None
    remark: Annotated[_Line, Field(max_length=500)] = ""
    recorded: Annotated[str, Field(pattern=r"^(\d{4}-\d\d-\d\d)?$")] = Field(
        "", description="Day on which the result was measured elsewhere, where it was imported."
    )
    metrics: dict[str, Any] = Field(description="Of vision_mlops.evaluation.metrics.summarise.")

    @property
    def in_a_service(self) -> bool:
        """Whether a service was used that costs money."""
        return self.hosted or self.usage is not None

    def is_of(self, fingerprint: str, settings: Mapping[str, Any], code: str) -> bool:
        """Whether it is what a contestant of these settings and this code reaches on that data."""
        plain = json.loads(json.dumps(dict(settings)))
        return (self.data_fingerprint, self.settings, self.code) == (fingerprint, plain, code)


def measures(table: PredictionTable, classes: list[str]) -> dict[str, Any]:
    """What the evaluation room says of predictions."""
    labels = np.array([classes.index(label) for label in table.labels], np.int64)
    return json.loads(json.dumps(summarise(labels, table.probabilities, classes)))  # type: ignore[no-any-return]


def judged_table(manifest: Manifest, probabilities: Probabilities) -> PredictionTable:
    """Predictions of the test images, rounded as the file has them, so that measures follow from the file alone."""
    records = manifest.of_split("test")
    return PredictionTable(
        [record.path for record in records], [record.label for record in records], np.round(probabilities, 6)
    )


def write_result(folder: Path, result: BenchmarkResult, table: PredictionTable) -> None:
    """Write both files, whole or not at all, in the place of an earlier result."""
    with atomic_folder(folder, overwrite=True) as temporary:
        write_predictions(temporary / PREDICTIONS, table, result.classes)
        (temporary / RESULT).write_text(result.model_dump_json(indent=2) + "\n", encoding="utf-8")


def read_result(folder: Path) -> tuple[BenchmarkResult, PredictionTable]:
    """Read what :func:`write_result` wrote.

    Raises:
        DataError: a file is missing, is not understood, or the measures are not those of the predictions.
    """
    try:
        result = BenchmarkResult.model_validate_json((folder / RESULT).read_text(encoding="utf-8"))
        table = read_predictions(folder / PREDICTIONS, result.classes)
        check_measures(result, table)
    except (OSError, ValidationError, ValueError) as error:
        raise DataError(
            f"{folder} is not the result of a benchmark: {error}", "remove the folder and run the benchmark again"
        ) from error
    return result, table


def check_measures(result: BenchmarkResult, table: PredictionTable) -> None:
    """Raises ValueError where the measures of a result are not those of its predictions."""
    found = measures(table, result.classes)
    for name in ("images", "accuracy", "macro_f1", "expected_calibration_error"):
        if abs(found[name] - float(result.metrics.get(name, -1))) > 1e-6:
            raise ValueError(f"{name} is {result.metrics.get(name)}, but the predictions give {found[name]}")
