"""Pictures of an evaluation as PNG files. Figures are built without pyplot, so nothing global changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from vision_mlops.evaluation.metrics import Floats, Labels, reliability


def draw_all(folder: Path, labels: Labels, probabilities: Floats, classes: list[str], matrix: list[list[int]]) -> None:
    """Write confusion_matrix.png, roc.png, precision_recall.png and reliability.png into ``folder``."""
    _confusion(matrix, classes).savefig(folder / "confusion_matrix.png", dpi=110)
    roc, recall = _curves(labels, probabilities, classes)
    roc.savefig(folder / "roc.png", dpi=110)
    recall.savefig(folder / "precision_recall.png", dpi=110)
    _reliability(labels, probabilities).savefig(folder / "reliability.png", dpi=110)


def _confusion(matrix: list[list[int]], classes: list[str]) -> Figure:
    edge = max(3.6, 0.45 * len(classes) + 2)
    figure = Figure(figsize=(edge + 0.6, edge), layout="constrained")
    axes = figure.subplots()
    counts = np.array(matrix)
    axes.imshow(counts / np.maximum(counts.sum(1, keepdims=True), 1), cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(len(classes)), classes, rotation=45, ha="right")
    axes.set_yticks(range(len(classes)), classes)
    axes.set(xlabel="predicted", ylabel="true", title="Confusion matrix")
    if len(classes) <= 20:
        for row, column in np.ndindex(counts.shape):
            dark = counts[row, column] > counts[row].sum() / 2
            axes.text(column, row, str(counts[row, column]), ha="center", va="center", color="w" if dark else "k")
    return figure


def _curves(labels: Labels, probabilities: Floats, classes: list[str]) -> tuple[Figure, Figure]:
    """ROC and precision-recall, each class against the rest. Classes without images, or with all of them, have none."""
    from sklearn.metrics import precision_recall_curve, roc_curve

    figures = Figure(figsize=(4.6, 4), layout="constrained"), Figure(figsize=(4.6, 4), layout="constrained")
    roc, recall = (figure.subplots() for figure in figures)
    for i, name in enumerate(classes):
        truth = labels == i
        if truth.any() and not truth.all():
            false_rate, true_rate, _ = roc_curve(truth, probabilities[:, i])
            roc.plot(false_rate, true_rate, label=name)
            precision, recalled, _ = precision_recall_curve(truth, probabilities[:, i])
            recall.plot(recalled, precision, label=name)
    roc.plot([0, 1], [0, 1], color="0.7", linestyle="--")
    roc.set(xlabel="false positive rate", ylabel="true positive rate", title="ROC, one against the rest")
    recall.set(xlabel="recall", ylabel="precision", title="Precision and recall", ylim=(0, 1.03))
    if len(classes) <= 12:
        roc.legend()
        recall.legend()
    return figures


def _reliability(labels: Labels, probabilities: Floats) -> Figure:
    bins, error = reliability(labels, probabilities)
    figure = Figure(figsize=(4.6, 4), layout="constrained")
    axes: Any = figure.subplots()
    axes.plot([0, 1], [0, 1], color="0.7", linestyle="--")
    largest = max((item.count for item in bins), default=1)
    axes.scatter(
        [item.confidence for item in bins],
        [item.accuracy for item in bins],
        s=[20 + 180 * item.count / largest for item in bins],
        alpha=0.7,
    )
    axes.set(xlabel="confidence", ylabel="accuracy", xlim=(0, 1.02), ylim=(-0.02, 1.05))
    axes.set_title(f"Reliability (calibration error {error:.3f})")
    return figure
