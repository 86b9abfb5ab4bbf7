"""Figures of an evaluation as SVG files. They are built without pyplot, so nothing global changes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vision_mlops.core.figures import FigureWords
from vision_mlops.evaluation.evaluation_report import PLOTS, ROBUSTNESS_PLOT
from vision_mlops.evaluation.metrics import Floats, Labels, reliability

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_INCHES = 0.08  # of a letter
_IN_LEGEND = 12  # classes at most


def draw_all(folder: Path, labels: Labels, probabilities: Floats, classes: list[str], matrix: list[list[int]]) -> None:
    """Write the :data:`PLOTS` into ``folder``."""
    words = FigureWords()
    names = [words.stand_in(name) for name in classes]
    figures = [_confusion(matrix, names), _reliability(labels, probabilities), *_curves(labels, probabilities, names)]
    for file, figure in zip(PLOTS, figures, strict=True):
        (folder / file).write_text(words.svg(figure), encoding="utf-8")


def draw_robustness(folder: Path, accuracy: float, robustness: dict[str, Any]) -> None:
    """Write the :data:`ROBUSTNESS_PLOT` into ``folder``: accuracy over strength, a line for each corruption.

    Args:
        folder: Folder to write to.
        accuracy: On the images as they are, which is strength 0.
        robustness: The section of the metrics.
    """
    figure = _figure(5.6, 3.7)
    axes: Any = figure.subplots()
    for name, found in robustness["corruptions"].items():
        strengths = [row["strength"] for row in found["strengths"]]
        low, high = zip(*(row["accuracy_interval"] for row in found["strengths"]), strict=True)
        (line,) = axes.plot(
            [0, *strengths], [accuracy, *(row["accuracy"] for row in found["strengths"])], marker="o", label=name
        )
        axes.fill_between(strengths, low, high, alpha=0.12, color=line.get_color())
    axes.set(xlabel="strength (0: as it is)", ylabel="accuracy", title="Accuracy on corrupted images", ylim=(0, 1.03))
    figure.legend(loc="outside right upper", fontsize="small")
    (folder / ROBUSTNESS_PLOT).write_text(FigureWords().svg(figure), encoding="utf-8")


def _figure(width: float, height: float) -> Figure:
    # Not imported with the module: it writes a list of fonts to the cache, and a command may still be refused.
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _confusion(matrix: list[list[int]], names: list[str]) -> Figure:
    edge = max(3.6, 0.45 * len(names) + 2) + _INCHES * max(map(len, names))
    figure = _figure(edge + 0.6, edge)
    axes = figure.subplots()
    counts = np.array(matrix)
    axes.imshow(counts / np.maximum(counts.sum(1, keepdims=True), 1), cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(names)), names)
    axes.set(xlabel="predicted", ylabel="true", title="Confusion matrix")
    if len(names) <= 20:
        for row, column in np.ndindex(counts.shape):
            dark = counts[row, column] > counts[row].sum() / 2
            axes.text(column, row, str(counts[row, column]), ha="center", va="center", color="w" if dark else "k")
    return figure


def _curves(labels: Labels, probabilities: Floats, names: list[str]) -> tuple[Figure, Figure]:
    """Draw ROC and precision-recall, each class against the rest. Classes without images, or with all, have none."""
    from sklearn.metrics import precision_recall_curve, roc_curve

    beside = 0.6 + _INCHES * max(map(len, names)) if len(names) <= _IN_LEGEND else 0.0
    figures = [_figure(3.7 + beside, 3.7) for _ in range(2)]
    roc, recall = (figure.subplots() for figure in figures)
    for i, name in enumerate(names):
        truth = labels == i
        if truth.any() and not truth.all():
            false_rate, true_rate, _ = roc_curve(truth, probabilities[:, i])
            roc.plot(false_rate, true_rate, label=name)
            precision, recalled, _ = precision_recall_curve(truth, probabilities[:, i])
            recall.plot(recalled, precision, label=name)
    roc.plot([0, 1], [0, 1], color="0.7", linestyle="--")
    roc.set(xlabel="false positive rate", ylabel="true positive rate", title="ROC, one against the rest")
    recall.set(xlabel="recall", ylabel="precision", title="Precision and recall", ylim=(0, 1.03))
    if beside:
        for figure in figures:
            figure.legend(loc="outside right upper", fontsize="small")
    return figures[0], figures[1]


def _reliability(labels: Labels, probabilities: Floats) -> Figure:
    bins, error = reliability(labels, probabilities)
    figure = _figure(4.6, 4)
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
