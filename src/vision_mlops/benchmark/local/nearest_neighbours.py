"""The contestant ``knn``: the classes of the most similar training images, by the features of the frozen backbone."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from vision_mlops.benchmark.contestant import Probabilities, Task
from vision_mlops.benchmark.local.backbone_features import FeatureContestant, Rows, choose

_NEIGHBOURS = (1, 3, 5, 9, 15, 25)
_BLOCK = 1024
"""Images that are compared with all training images at once."""


class NearestNeighbours(FeatureContestant):
    """Shows how far pretrained features reach without learning; the number of neighbours is chosen on the val images."""

    name = "knn"
    title = "Nearest neighbours in frozen features"
    tried: ClassVar = {"neighbours": list(_NEIGHBOURS)}

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.known: Rows = np.empty((0, 0), np.float32)
        self.labels = np.empty(0, np.int64)
        self.neighbours = 1

    def fit(self) -> None:
        """Keep the training images' features, and choose how many neighbours vote."""
        found = self.features.training()
        began = time.perf_counter()
        self.known, self.labels = _unit(found.train), self.task.images("train").labels.astype(np.int64)
        options = [number for number in _NEIGHBOURS if number <= len(self.labels)]
        nearest = self._nearest(found.val, options[-1])
        best = choose([self._votes(nearest, number) for number in options], self.task.images("val").labels)
        self.neighbours = options[best]
        self.seconds = found.seconds + time.perf_counter() - began
        self.task.say(f"{self.neighbours} neighbours, chosen on val")

    def predict(self, files: Sequence[Path]) -> Probabilities:
        """Return the share of each class among the neighbours."""
        return self._votes(self._nearest(self.features.of(files), self.neighbours), self.neighbours)

    def size_bytes(self) -> int:
        """Return the size of the backbone's graph and of the features and classes of the training images."""
        return self.features.graph_bytes + self.known.nbytes + self.labels.nbytes

    def _nearest(self, rows: Rows, number: int) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Return the classes (N, number) of the training images with the largest cosine, the nearest first."""
        found = []
        for start in range(0, len(rows), _BLOCK):
            similarity = _unit(rows[start : start + _BLOCK]) @ self.known.T
            found.append(self.labels[np.argsort(-similarity, axis=1, kind="stable")[:, :number]])
        return np.concatenate(found)

    def _votes(self, nearest: np.ndarray[Any, np.dtype[np.int64]], number: int) -> Probabilities:
        """Return shares among the first neighbours. All classes share one more vote, so that none is impossible.

        Where classes have equally many votes, the nearest neighbour decides, by a vote that is hardly heavier.
        """
        classes = len(self.task.manifest.classes)
        weights = np.ones(number)
        weights[0] += 1e-3
        votes = (np.eye(classes)[nearest[:, :number]] * weights[None, :, None]).sum(1) + 1 / classes
        return votes / votes.sum(1, keepdims=True)  # type: ignore[no-any-return]


def _unit(rows: Rows) -> Rows:
    found: Rows = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    return found
