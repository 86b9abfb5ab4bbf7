"""Measures of a classifier from labels and probabilities: no files, no plots. Curves and averages are scikit-learn's."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating[Any]]
Labels = npt.NDArray[np.integer[Any]]


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """Images whose top probability lies in one bin: mean confidence, accuracy, and how many."""

    confidence: float
    accuracy: float
    count: int


def median_interval(values: Sequence[float]) -> tuple[float, float]:
    """Return the interval that holds the true median with 99 percent: two of the values, by their order alone."""
    ordered = sorted(values)
    reach = math.ceil(2.576 * math.sqrt(len(ordered)) / 2)  # the normal approximation of the binomial
    middle = len(ordered) // 2
    return ordered[max(0, middle - reach)], ordered[min(len(ordered) - 1, middle + reach)]


def wilson_interval(correct: int, total: int) -> tuple[float, float]:
    """Return the 95% interval of a proportion (Wilson, 1927); (0, 1) without images."""
    if not total:
        return 0.0, 1.0
    from scipy.stats import binomtest

    low, high = binomtest(correct, total).proportion_ci(method="wilson")
    return float(low), float(high)


def reliability(labels: Labels, probabilities: Floats, bins: int = 15) -> tuple[list[ReliabilityBin], float]:
    """Return non-empty bins of equal width over the top probability, and the calibration error (Naeini, 2015)."""
    confidence = probabilities.max(1)
    correct = probabilities.argmax(1) == labels
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    found = [
        ReliabilityBin(float(confidence[place == i].mean()), float(correct[place == i].mean()), int((place == i).sum()))
        for i in range(bins)
        if (place == i).any()
    ]
    error = sum(item.count * abs(item.confidence - item.accuracy) for item in found) / max(1, len(labels))
    return found, error


def summarise(labels: Labels, probabilities: Floats, classes: list[str]) -> dict[str, Any]:
    """Return all scalar measures as plain JSON values.

    Args:
        labels: True class indices (N,).
        probabilities: (N, C), rows summing to 1.
        classes: Names in the order of the columns.

    Returns:
        accuracy with its 95% interval, macro_f1, expected_calibration_error, negative_log_likelihood, brier_score,
        per_class (precision, recall, f1, support, auc, average_precision; the last two None for a class without images),
        confusion_matrix (rows are true classes), images.
    """
    from sklearn.metrics import (
        average_precision_score,
        confusion_matrix,
        precision_recall_fscore_support,
        roc_auc_score,
    )

    predicted = probabilities.argmax(1)
    indices = list(range(len(classes)))
    correct = int((predicted == labels).sum())
    precision, recall, f1, support = precision_recall_fscore_support(labels, predicted, labels=indices, zero_division=0)
    per_class: dict[str, dict[str, float | int | None]] = {}
    for i, name in enumerate(classes):
        truth = labels == i
        mixed = bool(truth.any() and not truth.all())
        per_class[name] = {
            "precision": float(precision[i]),
            "recall": float(recall[i]),
            "f1": float(f1[i]),
            "support": int(support[i]),
            "auc": float(roc_auc_score(truth, probabilities[:, i])) if mixed else None,
            "average_precision": float(average_precision_score(truth, probabilities[:, i])) if mixed else None,
        }
    chosen = np.clip(probabilities[np.arange(len(labels)), labels], 1e-12, 1.0)
    return {
        "images": len(labels),
        "accuracy": correct / max(1, len(labels)),
        "accuracy_interval": list(wilson_interval(correct, len(labels))),
        "macro_f1": float(np.mean(f1)),
        "expected_calibration_error": reliability(labels, probabilities)[1],
        "negative_log_likelihood": float(-np.log(chosen).mean()),
        "brier_score": float(((probabilities - np.eye(len(classes))[labels]) ** 2).sum(1).mean()),
        "per_class": per_class,
        "confusion_matrix": confusion_matrix(labels, predicted, labels=indices).tolist(),
    }
