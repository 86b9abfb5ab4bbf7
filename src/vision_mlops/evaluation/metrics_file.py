"""Files of measures: ``metrics.json`` of an evaluation, checked when it is read, and ``evaluation.json`` of a bundle."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vision_mlops.core.errors import DataError, problem_of_file
from vision_mlops.core.yaml_text import read_json
from vision_mlops.evaluation.metrics import Floats, Labels, reliability, summarise
from vision_mlops.evaluation.robustness import ROBUSTNESS
from vision_mlops.model.bundle import EVALUATION

_Interval = Annotated[list[float], Field(min_length=2, max_length=2)]


class _Section(BaseModel):
    model_config = ConfigDict(strict=True, protected_namespaces=())


class _Latency(_Section):
    median: float
    p95: float
    # In no evaluation of an early release:
    median_low: float | None = None
    median_high: float | None = None


class _OfClass(_Section):
    precision: float
    recall: float
    f1: float
    auc: float | None
    support: int


class _OfStrength(_Section):
    strength: int
    accuracy: float
    accuracy_interval: _Interval


class _OfCorruption(_Section):
    accuracy: float
    strengths: list[_OfStrength]


class _Robustness(_Section):
    robustness_accuracy: float
    corruptions: Annotated[dict[str, _OfCorruption], Field(min_length=1)]


class _Mistake(_Section):
    image: str
    path: str
    label: str
    predicted: str
    probability: float


class _Metrics(_Section):
    name: str
    bundle_id: str
    split: str
    images: int
    accuracy: float
    accuracy_interval: _Interval
    macro_f1: float
    expected_calibration_error: float
    temperature: float
    backbone: str
    trained: str
    git_commit: str
    run_id: str
    data_fingerprint: str
    graph_bytes: int
    latency_ms: _Latency
    per_class: dict[str, _OfClass]
    mistakes: list[_Mistake]
    robustness: _Robustness | None = None
    metrics: dict[str, float] | None = None  # of the project's own


def read_metrics(file: Path) -> dict[str, Any]:
    """Read a ``metrics.json``.

    Raises:
        DataError: a section is missing or damaged; the message names the file and the field.
        OSError, ValueError: it cannot be read, or is no JSON.
    """
    content: Any = read_json(file.read_text(encoding="utf-8"))
    try:
        _Metrics.model_validate(content)
    except ValidationError as error:
        damaged = str((*error.errors(include_url=False)[0]["loc"], "")[0])
        again = "mlops evaluate --robustness" if damaged == ROBUSTNESS else "mlops evaluate"
        raise DataError(
            f"{file} is damaged: {problem_of_file(error)}", f"run `{again}` again with the folder as its --out"
        ) from error
    return dict(content)


def write_evaluation(folder: Path, labels: Labels, probabilities: Floats, classes: list[str]) -> None:
    """Write what a bundle reached on its test images into it, so that it can be shown wherever the bundle is served.

    It is :data:`~vision_mlops.model.bundle.EVALUATION`; the bundle must be hashed after this.

    Args:
        folder: The bundle.
        labels: True class indices of the test images (N,).
        probabilities: Probabilities of the exported graph (N, C).
        classes: Names in the order of the columns.
    """
    bins = [asdict(item) for item in reliability(labels, probabilities)[0]]
    content = {"split": "test", **summarise(labels, probabilities, classes), "reliability": bins}
    (folder / EVALUATION).write_text(json.dumps(content, allow_nan=False) + "\n", encoding="utf-8")
