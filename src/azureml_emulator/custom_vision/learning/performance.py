"""How well an iteration predicts the tags of unseen pictures: precision, recall and average precision."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from azureml_emulator.custom_vision.learning.image_features import Array
from azureml_emulator.rest.rest_calls import Json


class Performance:
    """What a classifier that had not seen each picture predicted for it, and the truth.

    Args:
        content: What the iteration was trained with: tags, and the tags of each image.
        judged: Predictions, as the training kept them.
    """

    def __init__(self, content: str, judged: str) -> None:
        said: Json = json.loads(judged)
        self._tags: list[Json] = json.loads(content)["tags"]
        tagged: dict[str, list[str]] = json.loads(content)["images"]
        self.images: list[str] = said["images"]
        self._said, self._folds = np.array(said["said"]), np.array(said["folds"])
        self._truth = np.array([[tag in tagged[image] for tag in said["tags"]] for image in self.images])

    def describe(self, threshold: float) -> Json:
        """Return all figures, as the service does.

        Args:
            threshold: Minimum probability at which a picture is considered to have a tag.
        """
        found = self._said >= threshold
        per_tag = [
            {"id": tag["id"], "name": tag["name"], **self._figures(found[:, [place]], self._truth[:, [place]])}
            | {"averagePrecision": average_precision(self._said[:, place], self._truth[:, place])}
            for place, tag in enumerate(self._tags)
        ]
        mean = float(np.mean([tag["averagePrecision"] for tag in per_tag]))
        return {"perTagPerformance": per_tag, **self._figures(found, self._truth), "averagePrecision": mean}

    def predictions(self, image: str) -> list[Json]:
        """Return the predictions for one picture, the most probable tag first."""
        return as_predictions(self._tags, list(self._said[self.images.index(image)]))

    def _figures(self, found: Array, truth: Array) -> Json:
        folds = [(_precision(found[rows], truth[rows]), _recall(found[rows], truth[rows])) for rows in self._rows()]
        spread = np.std(folds, axis=0)
        return {
            "precision": _precision(found, truth), "precisionStdDeviation": float(spread[0]),
            "recall": _recall(found, truth), "recallStdDeviation": float(spread[1]),
        }  # fmt: skip

    def _rows(self) -> list[Any]:
        return [self._folds == fold for fold in np.unique(self._folds)]


def as_predictions(tags: list[Json], probabilities: list[float]) -> list[Json]:
    """Return tags with their probabilities, the most probable one first."""
    found = [
        {"probability": float(value), "tagId": tag["id"], "tagName": tag["name"], "tagType": tag["type"]}
        for tag, value in zip(tags, probabilities, strict=True)
    ]
    return sorted(found, key=lambda item: -item["probability"])


def average_precision(said: Array, truth: Array) -> float:
    """Return the mean, over the pictures with a tag, of the precision among the pictures with at least that probability."""
    order = np.argsort(-said, kind="stable")
    hits = truth[order]
    if not hits.any():
        return 0.0
    return float((np.cumsum(hits) / np.arange(1, len(hits) + 1))[hits].mean())


def _precision(found: Array, truth: Array) -> float:
    return float((found & truth).sum() / max(found.sum(), 1))


def _recall(found: Array, truth: Array) -> float:
    return float((found & truth).sum() / max(truth.sum(), 1))
