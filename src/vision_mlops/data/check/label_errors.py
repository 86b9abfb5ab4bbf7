"""Suspected label errors: classes that a model trained on the other images contradicts.

The features of a pretrained network are reduced to their principal components and classified by linear discriminant analysis
with shrinkage, cross-validated: each image is judged by a model that saw neither it nor a copy of it. cleanlab ranks the
contradictions (confident learning; Northcutt et al., 2021). All of it works on sums over the images, so that their features
stay on disk.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vision_mlops.core.errors import Severity, require
from vision_mlops.data.check.dataset_findings import DatasetFinding
from vision_mlops.data.check.feature_rows import RowFile
from vision_mlops.data.check.file_listing import ImageListing
from vision_mlops.data.check.image_quality import BLANK_CONTRAST
from vision_mlops.data.check.image_scan import Scan

FOLDS = 5
SMALLEST = 10
"""Images that a class needs: with fewer, its model is a guess."""
SURE = 0.8
"""At this confidence in another class or above, a doubt is a warning; below it, a note."""
_COMPONENTS = 256
_SHRINKAGE = 0.1

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class LabelCheck:
    """How the check of the labels went. ``accuracy`` is that of the cross-validated model on the given labels."""

    checked: int = 0
    accuracy: float | None = None
    skipped: str = ""


def find(
    listing: ImageListing, scan: Scan, groups: Iterable[list[int]], folder: Path
) -> tuple[list[DatasetFinding], LabelCheck]:
    """Rank the images whose class is in doubt.

    Args:
        listing: The files.
        scan: Scan with their features.
        groups: Copies of one picture, which must not be judged by each other.
        folder: Where numbers are kept for the time being.

    Raises:
        MissingExtraError: cleanlab is not installed.
    """
    require("cleanlab")
    from cleanlab.filter import find_label_issues

    assert scan.features is not None, "scan with an embedder"
    usable = [int(i) for i in scan.usable if scan.looks[i].contrast >= BLANK_CONTRAST]
    sizes = Counter(listing.entries[i].label for i in usable)
    classes = sorted(label for label, count in sizes.items() if count >= SMALLEST)
    if len(classes) < 2:
        return [], LabelCheck(skipped=f"fewer than two classes have {SMALLEST} readable images")
    place = {label: number for number, label in enumerate(classes)}
    rows = np.array([i for i in usable if listing.entries[i].label in place], np.int64)
    labels = np.array([place[listing.entries[i].label] for i in rows], np.int64)
    folds = assign_folds([scan.looks[i].sha256 for i in rows], labels, _group_numbers(rows, groups))
    probabilities = cross_validated(scan.features, rows, labels, folds, len(classes), folder)
    predicted = probabilities.argmax(1)
    doubted = find_label_issues(labels, probabilities, filter_by="low_self_confidence", n_jobs=1)
    # cleanlab decides how many labels are wrong, too few if the classes are easy: what is certain is reported anyway.
    doubted = (doubted | (probabilities.max(1) >= SURE)) & (predicted != labels)
    given = probabilities[np.arange(len(labels)), labels]
    ranked = sorted(np.flatnonzero(doubted), key=lambda number: float(given[number]))
    findings = []
    for number in ranked:
        file = listing.entries[rows[number]]
        suggested, confidence = classes[predicted[number]], float(probabilities[number, predicted[number]])
        details = {
            "given": file.label,
            "suggested": suggested,
            "confidence": round(confidence, 4),
            "given_confidence": round(float(given[number]), 4),
        }
        message = f"{file.path}: given as {file.label!r}, looks like {suggested!r} ({confidence:.0%})"
        milder = None if confidence >= SURE else Severity.NOTE
        findings.append(DatasetFinding("label-error", message, (file,), milder, details=details))
    return findings, LabelCheck(len(rows), float((predicted == labels).mean()))


def _group_numbers(rows: Indices, groups: Iterable[list[int]]) -> Indices:
    """Return a number for each image that its copies share; groups that overlap are joined."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    places = {int(row): place for place, row in enumerate(rows)}
    members = [[places[index] for index in group if index in places] for group in groups]
    links = np.array([(group[0], place) for group in members for place in group[1:]], np.int64).reshape(-1, 2)
    graph = coo_array((np.ones(len(links), np.int8), (links[:, 0], links[:, 1])), shape=(len(rows), len(rows)))
    return np.asarray(connected_components(graph, directed=False)[1], np.int64)


def assign_folds(contents: list[bytes], labels: Indices, groups: Indices) -> Indices:
    """Assign each image one of FOLDS folds: classes spread evenly, copies together, wherever the folder is."""
    members: dict[int, list[int]] = {}
    for number, group in enumerate(groups):
        members.setdefault(int(group), []).append(number)
    folds = np.zeros(len(labels), np.int64)
    filled = np.zeros((int(labels.max(initial=0)) + 1, FOLDS), np.int64)
    # The largest first: later ones then even out what these left uneven. Content decides the rest, as good as a draw.
    for group in sorted(members.values(), key=lambda found: (-len(found), min(contents[i] for i in found))):
        label = labels[group[0]]
        fold = int(filled[label].argmin())
        folds[group] = fold
        filled[:, fold] += np.bincount(labels[group], minlength=len(filled))
    return folds


def cross_validated(
    features: RowFile, rows: Indices, labels: Indices, folds: Indices, classes: int, folder: Path
) -> npt.NDArray[np.float32]:
    """Return the probabilities (N, classes) of each image's class by a model of the other folds."""
    mean, components = _principal(features, rows)
    width = components.shape[1]
    counts = np.zeros((FOLDS, classes))
    sums = np.zeros((FOLDS, classes, width))
    squares = np.zeros((FOLDS, width, width))
    with RowFile(folder, width, np.float32) as reduced:
        for places, values in features.blocks(rows):
            block = (values.astype(np.float64) - mean) @ components
            reduced.write(places.start, block)
            for fold in range(FOLDS):
                inside = folds[places] == fold
                squares[fold] += block[inside].T @ block[inside]
                np.add.at(sums[fold], labels[places][inside], block[inside])
                counts[fold] += np.bincount(labels[places][inside], minlength=classes)
        models = [
            _discriminant(*(total.sum(0) - total[fold] for total in (counts, sums, squares))) for fold in range(FOLDS)
        ]
        scores = np.empty((len(rows), classes), np.float32)
        for places, block in reduced.blocks(np.arange(len(rows), dtype=np.int64)):
            for fold in range(FOLDS):
                inside = np.flatnonzero(folds[places] == fold)
                weights, bias = models[fold]
                scores[places.start + inside] = block[inside].astype(np.float64) @ weights + bias
    from scipy.special import softmax

    return np.asarray(softmax(scores / _temperature(scores, labels), axis=1), np.float32)


def _principal(features: RowFile, rows: Indices) -> tuple[Floats, Floats]:
    """Return mean (F,) and the strongest principal directions (F, k) of the standardised features."""
    total, square = np.zeros(features.width), np.zeros((features.width, features.width))
    for _, values in features.blocks(rows):
        block = values.astype(np.float32)
        total += block.sum(0, dtype=np.float64)
        square += block.T @ block
    mean = total / len(rows)
    covariance = square / len(rows) - np.outer(mean, mean)
    deviation = np.sqrt(np.maximum(covariance.diagonal(), 1e-8))
    correlation = covariance / np.outer(deviation, deviation)
    from sklearn.utils.extmath import randomized_svd

    count = min(_COMPONENTS, features.width, max(1, len(rows) // 4))
    # Of 2,000 features an exact decomposition takes 4 to 12 s of one core, this a tenth.
    directions, _, _ = randomized_svd(correlation, count, n_iter=3, random_state=0)
    return mean, directions / deviation[:, None]


def _discriminant(counts: Floats, sums: Floats, squares: Floats) -> tuple[Floats, Floats]:
    """Fit a linear discriminant analysis to counts, sums and squares of the features: weights (k, C) and bias (C,)."""
    means = sums / np.maximum(counts, 1)[:, None]
    within = (squares - means.T @ (means * counts[:, None])) / max(1.0, counts.sum() - len(counts))
    width = len(within)
    within = (1 - _SHRINKAGE) * within + _SHRINKAGE * max(float(np.trace(within)) / width, 1e-6) * np.eye(width)
    weights = np.linalg.solve(within, means.T)
    # A class that is in no other fold cannot be predicted; half an image keeps its logarithm finite.
    prior = np.log(np.maximum(counts, 0.5) / counts.sum())
    return weights, prior - 0.5 * np.einsum("ck,kc->c", means, weights)


def _temperature(scores: npt.NDArray[np.float32], labels: Indices) -> float:
    """Find the divisor of the scores that makes the given labels most likely: discriminants are far too confident."""
    from scipy.optimize import minimize_scalar
    from scipy.special import softmax

    def loss(logarithm: float) -> float:
        likely = softmax(scores / np.exp(logarithm), axis=1)[np.arange(len(labels)), labels]
        return -float(np.log(likely + 1e-12).mean())

    return float(np.exp(minimize_scalar(loss, bounds=(-2.0, 5.0), method="bounded").x))
