"""The network that AutoML for images has trained: images in, probabilities out, by OpenVINO on this machine.

Names, shapes and preprocessing are those of Microsoft's documentation of ONNX models of AutoML for images: an image becomes
RGB and a square, its middle is cut out, and its colours are scaled by mean and deviation of ImageNet; the outputs are
logits in the order of ``labels.json``.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vision_mlops.benchmark.contestant import Probabilities
from vision_mlops.core.errors import DataError
from vision_mlops.core.text import few
from vision_mlops.images.decoding import open_rgb
from vision_mlops.model.openvino_runtime import shared_core

MODEL, LABELS = "model.onnx", "labels.json"
RESIZE, CROP = 256, 224
"""Edge of the square that an image becomes, and of the middle that is cut out: AutoML's defaults, which the job asks for."""
_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
_STD = np.array([0.229, 0.224, 0.225], np.float32)
_BATCH = 16


class OnnxClassifier:
    """A network with its labels.

    Args:
        folder: Holds ``model.onnx`` and ``labels.json``.
        classes: Classes in the order of the columns of the probabilities.

    Raises:
        DataError: a file is not what it should be, or there are labels that are no classes.
        MissingExtraError: OpenVINO is not installed.
    """

    def __init__(self, folder: Path, classes: Sequence[str]) -> None:
        self._columns = _columns(folder / LABELS, classes)
        self._number = len(classes)
        core = shared_core()
        options = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
        try:
            self._model = core.compile_model(str(folder / MODEL), "CPU", options)
        except RuntimeError as error:
            raise DataError(
                f"{folder / MODEL}: OpenVINO cannot load the graph: {error}", "remove the folder, and run again"
            ) from error

    def predict(self, files: Sequence[Path]) -> Probabilities:
        """Compute probabilities (N, C) of image files; 0 for a class that the network does not know. Raises ImageError."""
        found = np.zeros((len(files), self._number))
        for start in range(0, len(files), _BATCH):
            batch = np.stack([pixels_of(file) for file in files[start : start + _BATCH]])
            logits = np.asarray(self._model(batch)[0], np.float64)
            weights = np.exp(logits - logits.max(1, keepdims=True))
            found[start : start + len(batch), self._columns] = weights / weights.sum(1, keepdims=True)
        return found


def pixels_of(file: Path) -> npt.NDArray[np.float32]:
    """Return the input of the network for one image: (3, S, S). Raises ImageError."""
    edge = (RESIZE - CROP) // 2
    square = open_rgb(file).resize((RESIZE, RESIZE)).crop((edge, edge, edge + CROP, edge + CROP))
    scaled: npt.NDArray[np.float32] = (np.asarray(square, np.float32) / np.float32(255) - _MEAN) / _STD
    return scaled.transpose(2, 0, 1)


def _columns(file: Path, classes: Sequence[str]) -> list[int]:
    """Return the column of the class of each label."""
    try:
        labels = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{file} cannot be read: {error}", "remove the folder, and run again") from error
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise DataError(f"{file} is not a list of labels", "look at the artifacts of the run in Azure ML studio")
    if unknown := [label for label in labels if label not in classes]:
        raise DataError(
            f"{file} has labels that are not classes: {few(unknown)}", "check whether the job was given other data"
        )
    return [classes.index(label) for label in labels]
