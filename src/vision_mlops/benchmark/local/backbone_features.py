"""Features of a frozen pretrained backbone, computed once for the contestants that learn from nothing else."""

from __future__ import annotations

import hashlib
import io
import time
import zipfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from vision_mlops.benchmark.benchmark_folder import BenchmarkFolder
from vision_mlops.benchmark.code_version import module_version
from vision_mlops.benchmark.contestant import Contestant, Probabilities, Task
from vision_mlops.core.cpu import available_cores
from vision_mlops.core.files import atomic_write
from vision_mlops.images.decoding import PIXELS_VERSION, load_pixels
from vision_mlops.model import embedding

Rows = npt.NDArray[np.float32]
_BATCH = 8


@dataclass(frozen=True, slots=True)
class TrainingFeatures:
    """Features (N, F) of the train and val images, in the manifest's order, and the seconds that they took."""

    train: Rows
    val: Rows
    seconds: float


class BackboneFeatures:
    """The features of a task's images.

    Args:
        task: Its workload names the backbone, which needs pretrained weights, and the size of the images.
    """

    def __init__(self, task: Task) -> None:
        self.task = task
        self.model = task.workload.model
        self.graph = embedding.graph_path(self.model)
        self._network: embedding.Embedding | None = None

    @property
    def settings(self) -> dict[str, object]:
        """Settings that they depend on besides the images."""
        shared = {"backbone": self.model.backbone, "image_size": self.model.image_size, "resize": self.model.resize}
        return {"embedding": self.graph.stem, **shared, "pixels": PIXELS_VERSION}

    @property
    def graph_bytes(self) -> int:
        """Size of the backbone's graph."""
        return int(self.graph.stat().st_size)

    def training(self) -> TrainingFeatures:
        """Return the features of train and val, computed or, if they were computed before, read."""
        kept = self._kept()
        if not self.task.again and (found := self._read(kept)) is not None:
            self.task.say("reusing the features of the backbone")
            return found
        began = time.perf_counter()
        train, val = (self.of(self.task.images(split).files) for split in ("train", "val"))
        seconds = time.perf_counter() - began
        stream = io.BytesIO()
        np.savez(stream, train=train, val=val, seconds=np.float64(seconds))
        atomic_write(kept, stream.getvalue())
        return TrainingFeatures(train, val, seconds)

    def of(self, files: Sequence[Path]) -> Rows:
        """Compute the features (N, F) of image files."""
        if self._network is None:
            self._network = embedding.from_backbone(self.model)
        network = self._network

        def features(start: int) -> Rows:
            pixels = [
                load_pixels(file, network.size, network.resize, max_pixels=self.task.workload.data.max_pixels)
                for file in files[start : start + _BATCH]
            ]
            return network(np.stack(pixels))

        if len(files) <= _BATCH:
            return features(0)
        with ThreadPoolExecutor(available_cores()) as pool:
            return np.concatenate(list(pool.map(features, range(0, len(files), _BATCH))))

    def _kept(self) -> Path:
        text = f"{self.task.manifest.fingerprint} {module_version(__name__)} {sorted(self.settings.items())}"
        folder = BenchmarkFolder(self.task.workload.name).features
        return folder / f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.npz"

    def _read(self, path: Path) -> TrainingFeatures | None:
        """Read the features in a file; None if there is no file, or it is damaged."""
        try:
            with np.load(path, allow_pickle=False) as content:
                found = TrainingFeatures(content["train"], content["val"], float(content["seconds"]))
        except (OSError, ValueError, KeyError, zipfile.BadZipFile):
            return None
        sizes = tuple(len(self.task.manifest.of_split(split)) for split in ("train", "val"))
        return found if (len(found.train), len(found.val)) == sizes else None


class FeatureContestant(Contestant):
    """A contestant that learns from the features of the frozen backbone alone; :meth:`fit` sets the ``seconds``."""

    tried: ClassVar[Mapping[str, Any]]
    """Settings of its own that the result depends on."""

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.features = BackboneFeatures(task)
        self.seconds = 0.0

    def settings(self) -> Mapping[str, Any]:
        """Return the backbone, and what is tried."""
        return {**self.features.settings, **self.tried}

    def training_seconds(self) -> float:
        """Include the time of the features, even if another contestant had them computed."""
        return self.seconds


def choose(val_probabilities: Sequence[Probabilities], labels: npt.NDArray[np.integer]) -> int:
    """Return the candidate that gets most val images right; among equals the one that is surest of the truth."""

    def quality(probabilities: Probabilities) -> tuple[float, float]:
        truth = np.clip(probabilities[np.arange(len(labels)), labels], 1e-12, 1.0)
        return float((probabilities.argmax(1) == labels).mean()), float(np.log(truth).mean())

    return max(range(len(val_probabilities)), key=lambda place: quality(val_probabilities[place]))
