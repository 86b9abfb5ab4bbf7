"""Contestants of a benchmark that learn in no time: the mean colour of each class, here or as if a service had it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from PIL import Image

from vision_mlops.benchmark.contestant import Contestant, Probabilities, Usage


class MeanColour(Contestant):
    """Takes an image for the class whose mean colour is nearest."""

    name = "mean-colour"
    title = "Mean <colour>"
    calls: ClassVar[list[str]] = []
    """What was asked of objects of this class, for tests that look."""
    colours: ClassVar[int] = 3
    problem: ClassVar[Exception | None] = None

    def settings(self) -> Mapping[str, Any]:
        return {"colours": self.colours}

    def fit(self) -> None:
        self.calls.append(f"{self.name} fit")
        if self.problem is not None:
            raise self.problem
        train = self.task.images("train")
        rows = np.array([_mean(file) for file in train.files])
        self.centres = np.array([rows[train.labels == i].mean(0) for i in range(len(self.task.manifest.classes))])

    def predict(self, files: Sequence[Path]) -> Probabilities:
        distances = np.array([((_mean(file) - self.centres) ** 2).sum(1) for file in files])
        weights = np.exp((distances.min(1, keepdims=True) - distances) / 100)
        found: Probabilities = weights / weights.sum(1, keepdims=True)
        return found


class ServiceColour(MeanColour):
    """The same as a service has it: it costs money, keeps in its folder what it predicted, and can be interrupted."""

    name = "service-colour"
    hosted = True
    interrupt_at: ClassVar[int | None] = None
    requests: ClassVar[list[str]] = []
    ms: ClassVar[tuple[float, ...]] = ()

    def fit(self) -> None:
        super().fit()
        (self.task.folder / "project").write_text("made")

    def predict(self, files: Sequence[Path]) -> Probabilities:
        found = []
        for file in files:
            kept = self.task.folder / f"{file.parent.name}-{file.name}.npy"
            if not kept.exists():
                if self.interrupt_at is not None and len(self.requests) >= self.interrupt_at:
                    raise KeyboardInterrupt
                self.requests.append(file.name)
                np.save(kept, super().predict([file]))
            found.append(np.load(kept))
        return np.concatenate(found)

    def usage(self) -> Usage:
        return Usage({"custom_vision_training_hour": 0.5}, {"custom_vision_prediction": 1.0})

    def round_trips_ms(self) -> Sequence[float]:
        return self.ms

    def clean_up(self) -> None:
        self.calls.append(f"{self.name} clean_up")
        (self.task.folder / "project").unlink()


def _mean(file: Path) -> Any:
    return np.asarray(Image.open(file)).reshape(-1, 3).mean(0)
