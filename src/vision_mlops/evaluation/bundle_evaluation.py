"""What a bundle reached on its test images, written into it, so that it can be shown wherever the bundle is served."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from vision_mlops.evaluation.metrics import Floats, Labels, reliability, summarise
from vision_mlops.model.bundle import EVALUATION


def write_evaluation(folder: Path, labels: Labels, probabilities: Floats, classes: list[str]) -> None:
    """Write :data:`~vision_mlops.model.bundle.EVALUATION`; the bundle is to be hashed after that.

    Args:
        folder: The bundle.
        labels: True class indices of the test images (N,).
        probabilities: Of the exported graph (N, C).
        classes: Names in the order of the columns.
    """
    bins = [asdict(item) for item in reliability(labels, probabilities)[0]]
    content = {"split": "test", **summarise(labels, probabilities, classes), "reliability": bins}
    (folder / EVALUATION).write_text(json.dumps(content, allow_nan=False) + "\n", encoding="utf-8")
