"""A classifier that learns tags from the numbers of pictures, by logistic regression, and is judged on unseen pictures."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import numpy as np

from azureml_emulator.custom_vision.learning.image_features import VIEWS, Array, features, weights

FOLDS = 5
_PENALTY = 0.03
"""Inverse strength of the penalty on large weights."""


@dataclass(frozen=True)
class TagClassifier:
    """A trained classifier.

    Attributes:
        weights: Array of shape (numbers of a picture, tags).
        offsets: Array of shape (tags,).
        centre: Values that are subtracted from the numbers.
        scale: Values by which they are divided.
        multilabel: Whether a picture may have several tags; then the probabilities are independent.
        views: How many views of each picture are used.
    """

    weights: Array
    offsets: Array
    centre: Array
    scale: Array
    multilabel: bool
    views: int = 1

    def probabilities(self, numbers: Array) -> Array:
        """Return the score of each tag for each row of numbers."""
        scores = (numbers - self.centre) / self.scale @ self.weights + self.offsets
        if self.multilabel:
            return np.asarray(1 / (1 + np.exp(-np.clip(scores, -60, 60))))
        powers = np.exp(scores - scores.max(1, keepdims=True))
        return np.asarray(powers / powers.sum(1, keepdims=True))

    def predict(self, content: bytes) -> list[float]:
        """Return the probability of each tag for a picture."""
        numbers = np.stack([features(content, view) for view in range(self.views)])
        return [float(value) for value in self.probabilities(numbers).mean(0)]

    def to_bytes(self) -> bytes:
        """Return the classifier as a file."""
        stream = io.BytesIO()
        np.savez(
            stream, weights=self.weights, offsets=self.offsets, centre=self.centre, scale=self.scale,
            multilabel=self.multilabel, views=self.views,
        )  # fmt: skip
        return stream.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> TagClassifier:
        """Return the classifier in a file."""
        with np.load(io.BytesIO(content), allow_pickle=False) as kept:
            arrays = {name: kept[name] for name in ("weights", "offsets", "centre", "scale")}
            return cls(**arrays, multilabel=bool(kept["multilabel"]), views=int(kept["views"]))


def fit(numbers: Array, truth: Array, multilabel: bool, views: int = 1) -> TagClassifier:
    """Train a classifier.

    Args:
        numbers: Array of shape (pictures, numbers of a picture).
        truth: Whether each picture has each tag; array of shape (pictures, tags).
        multilabel: Whether a picture may have several tags.
        views: How many views of each picture are used, which the classifier stores.
    """
    centre, scale = numbers.mean(0), (numbers.std(0) + 1e-3) / weights()
    rows = (numbers - centre) / scale
    if multilabel:
        found = [_one(rows, truth[:, tag]) for tag in range(truth.shape[1])]
        learnt, offsets = np.stack([one[0] for one in found], 1), np.array([one[1] for one in found])
    else:
        learnt, offsets = _several(rows, truth.argmax(1), truth.shape[1])
    return TagClassifier(learnt, offsets, centre, scale, multilabel, views)


def judge(numbers: Array, truth: Array, multilabel: bool) -> tuple[Array, Array]:
    """Return what classifiers predict for pictures that they have not seen.

    Args:
        numbers: Array of shape (views, pictures, numbers of a picture).
        truth: Whether each picture has each tag; array of shape (pictures, tags).
        multilabel: Whether a picture may have several tags.

    Returns:
        The probability of each tag for each picture, and the fold that each picture was in.
    """
    folds = _folds(truth)
    said = np.zeros(truth.shape)
    for fold in range(FOLDS):
        unseen = folds == fold
        rows = numbers[:, ~unseen].reshape(-1, numbers.shape[2])
        made = fit(rows, np.tile(truth[~unseen], (len(numbers), 1)), multilabel)
        said[unseen] = np.mean([made.probabilities(view[unseen]) for view in numbers], axis=0)
    return said, folds


def look_at(contents: list[bytes], views: int) -> Array:
    """Return the numbers of pictures, an array of shape (views, pictures, numbers of a picture)."""
    assert 1 <= views <= VIEWS
    return np.stack([np.stack([features(content, view) for content in contents]) for view in range(views)])


def _folds(truth: Array) -> Array:
    """Return a fold for each picture, with pictures of the same tags spread evenly; the same for the same pictures."""
    folds = np.zeros(len(truth), dtype=int)
    chance = np.random.default_rng(0)
    _, groups = np.unique(truth, axis=0, return_inverse=True)
    start = 0
    for group in range(groups.max() + 1):
        members = chance.permutation(np.flatnonzero(groups.ravel() == group))
        folds[members] = (start + np.arange(len(members))) % FOLDS
        start += len(members)
    return folds


def _several(rows: Array, tags: Array, count: int) -> tuple[Array, Array]:
    """Return weights and offsets if each picture has exactly one of the tags."""
    made = _regression().fit(rows, tags)
    learnt, offsets = np.zeros((rows.shape[1], count)), np.full(count, -60.0)
    if len(made.classes_) == 2:  # then it only has the second one
        learnt[:, made.classes_[1]] = made.coef_[0]
        offsets[made.classes_] = 0, made.intercept_[0]
    else:
        learnt[:, made.classes_] = made.coef_.T
        offsets[made.classes_] = made.intercept_
    return learnt, offsets


def _one(rows: Array, has: Array) -> tuple[Array, float]:
    """Return weights and offset of one tag."""
    if has.all() or not has.any():  # nothing to distinguish
        return np.zeros(rows.shape[1]), 4.0 if has.all() else -4.0
    made = _regression().fit(rows, has)
    return made.coef_[0], float(made.intercept_[0])


def _regression() -> Any:
    from sklearn.linear_model import LogisticRegression  # takes a second, and most emulators never train

    return LogisticRegression(C=_PENALTY, max_iter=1000, tol=1e-3)
