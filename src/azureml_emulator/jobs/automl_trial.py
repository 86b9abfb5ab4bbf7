"""The only trial of an AutoML job that classifies images: a step of the job runs this file as a script.

It trains a small classifier, not the network that the job names: small pieces of the training images are the filters of one
convolution, and a logistic regression classifies their responses. What it writes has the names and shapes that Microsoft
documents for such jobs: ``model.onnx``, whose input is normalised (N, 3, S, S) and whose outputs are logits, and
``labels.json``, the names of the classes in their order.

It imports nothing of this package, because it runs where the steps of jobs run, which need numpy, Pillow, onnx, OpenVINO and
scikit-learn for it.
"""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]

_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
_STD = np.array([0.229, 0.224, 0.225], np.float32)
_FILTERS, _EDGE, _STRIDE = 48, 7, 2
_STRENGTHS = (0.01, 0.1, 1.0)  # of the logistic regression; the best on the validation images is used
_BATCH = 32
_OPSET = 17


@dataclass(frozen=True)
class ReadImages:
    """Pixels (N, S, S, 3), and the index of each image's class."""

    pixels: Bytes
    labels: Labels


def read_images(table: Path, classes: list[str], resize: int, crop: int) -> ReadImages:
    """Read the images that a table lists: resized to a square, of which the middle is cut out."""
    rows = [json.loads(line) for line in table.read_text(encoding="utf-8").splitlines()]
    pixels = np.empty((len(rows), crop, crop, 3), np.uint8)
    edge = (resize - crop) / 2
    for number, row in enumerate(rows):
        with Image.open(table.parent / row["image"]) as image:
            square = image.convert("RGB").resize((resize, resize)).crop((edge, edge, edge + crop, edge + crop))
        pixels[number] = np.asarray(square)
    return ReadImages(pixels, np.array([classes.index(row["label"]) for row in rows], np.int64))


def normalised(pixels: Bytes) -> Floats:
    """Return the input of the network: (N, 3, S, S), scaled by mean and deviation of ImageNet's colours."""
    scaled = (pixels.astype(np.float32) / 255 - _MEAN) / _STD
    return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2), np.float32)


def split(images: ReadImages, share: float, generator: np.random.Generator) -> tuple[ReadImages, ReadImages]:
    """Set aside a share of the images of each class for validation, as AutoML does if it is given no such data."""
    aside = np.zeros(len(images.labels), bool)
    for label in np.unique(images.labels):
        members = generator.permutation(np.flatnonzero(images.labels == label))
        aside[members[: max(1, round(share * len(members)))] if len(members) > 1 else []] = True
    kept, held = (ReadImages(images.pixels[part], images.labels[part]) for part in (~aside, aside))
    return kept, held


def random_filters(pixels: Bytes, generator: np.random.Generator) -> Floats:
    """Return pieces of training images at half their size, each with mean 0 and length 1: (filters, 3, edge, edge)."""
    half = normalised(pixels[generator.integers(len(pixels), size=_FILTERS)])[:, :, ::2, ::2]
    found = np.empty((_FILTERS, 3, _EDGE, _EDGE), np.float32)
    for number, image in enumerate(half):
        top, left = generator.integers(image.shape[1] - _EDGE + 1, size=2)
        piece = image[:, top : top + _EDGE, left : left + _EDGE]
        piece = piece - piece.mean() + generator.normal(0, 1e-3, piece.shape)  # a plain surface is not a filter
        found[number] = piece / np.linalg.norm(piece)
    return found


class Network:
    """The graph: fixed filters, followed by one linear layer once :meth:`finish` has added it.

    Args:
        filters: Result of :func:`random_filters`.
        crop: Edge of the images.
    """

    def __init__(self, filters: Floats, crop: int) -> None:
        from onnx import helper, numpy_helper

        self._crop = crop
        self._helper, self._numpy = helper, numpy_helper
        quarter = ((crop // 2 - _EDGE) // _STRIDE + 1) // 2
        self._constants = [numpy_helper.from_array(filters, "filters")]
        self._nodes = [
            helper.make_node("AveragePool", ["input1"], ["half"], kernel_shape=[2, 2], strides=[2, 2]),
            helper.make_node("Conv", ["half", "filters"], ["responses"], strides=[_STRIDE, _STRIDE]),
            helper.make_node("Abs", ["responses"], ["strengths"]),
            helper.make_node(
                "AveragePool", ["strengths"], ["textures"], kernel_shape=[quarter] * 2, strides=[quarter] * 2
            ),
            helper.make_node("GlobalMaxPool", ["strengths"], ["peaks"]),
            helper.make_node("AveragePool", ["half"], ["colours"], kernel_shape=[crop // 8] * 2, strides=[crop // 8] * 2),
            helper.make_node("Flatten", ["textures"], ["flat1"]),
            helper.make_node("Flatten", ["peaks"], ["flat2"]),
            helper.make_node("Flatten", ["colours"], ["flat3"]),
            helper.make_node("Concat", ["flat1", "flat2", "flat3"], ["features"], axis=1),
        ]  # fmt: skip

    def finish(self, weights: Floats, offsets: Floats) -> None:
        """Add the linear layer from features to logits."""
        self._constants += [self._numpy.from_array(weights, "weights"), self._numpy.from_array(offsets, "offsets")]
        self._nodes.append(self._helper.make_node("Gemm", ["features", "weights", "offsets"], ["output1"]))

    def save(self, file: Path, output: str) -> None:
        """Write the graph with one of its values as the output."""
        import onnx

        value = self._helper.make_tensor_value_info
        kind = onnx.TensorProto.FLOAT
        inputs = [value("input1", kind, ["batch", 3, self._crop, self._crop])]
        graph = self._helper.make_graph(
            self._nodes, "classifier", inputs, [value(output, kind, ["batch", None])], self._constants
        )
        model = self._helper.make_model(graph, opset_imports=[self._helper.make_opsetid("", _OPSET)], ir_version=8)
        onnx.checker.check_model(model)
        onnx.save(model, str(file))


def run(file: Path, pixels: Bytes) -> Floats:
    """Return the outputs of a graph for images."""
    import openvino

    model = openvino.Core().compile_model(str(file), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    parts = [model(normalised(pixels[start : start + _BATCH]))[0] for start in range(0, len(pixels), _BATCH)]
    return np.concatenate(parts).astype(np.float32)


def linear_layer(features: Floats, labels: Labels, number: int, strength: float) -> tuple[Floats, Floats]:
    """Return weights (features, classes) and offsets of a logistic regression on scaled features, including the scaling."""
    from sklearn.linear_model import LogisticRegression

    mean, scale = features.mean(0), features.std(0) + 1e-6
    fitted = LogisticRegression(C=strength, max_iter=300).fit((features - mean) / scale, labels)
    coefficients, intercepts = fitted.coef_, fitted.intercept_
    if len(fitted.classes_) == 2:  # it has one row for both
        coefficients, intercepts = (
            np.concatenate([-coefficients, coefficients]),
            np.concatenate([-intercepts, intercepts]),
        )
    weights = np.zeros((features.shape[1], number), np.float32)
    offsets = np.full(number, -30, np.float32)  # for a class without a training image
    weights[:, fitted.classes_] = (coefficients / scale).T
    offsets[fitted.classes_] = intercepts - coefficients @ (mean / scale)
    return weights, offsets


def scores(logits: Floats, labels: Labels) -> dict[str, float]:
    """Return accuracy and mean log loss."""
    shifted = logits - logits.max(1, keepdims=True)
    logs = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    return {
        "accuracy": float((logits.argmax(1) == labels).mean()),
        "log_loss": float(-logs[np.arange(len(labels)), labels].mean()),
    }


def train(data: Path, out: Path, resize: int, crop: int, share: float, seed: int) -> dict[str, float]:
    """Train, write the model to a folder, and measure it on the validation images.

    Args:
        data: Folder with ``classes.json``, ``training.jsonl`` and optionally ``validation.jsonl``.
        out: Folder to write to.
        resize: Edge of the square to which images are scaled.
        crop: Edge of the middle that is cut out of it.
        share: Share of the training images for validation if there are no others.
        seed: Seed of everything random.
    """
    classes: list[str] = json.loads((data / "classes.json").read_text(encoding="utf-8"))
    generator = np.random.default_rng(seed)
    training = read_images(data / "training.jsonl", classes, resize, crop)
    if (data / "validation.jsonl").is_file():
        validation = read_images(data / "validation.jsonl", classes, resize, crop)
    else:
        training, validation = split(training, share, generator)
    counts = f"{len(training.labels)} training and {len(validation.labels)} validation images"
    print(f"{counts}, {len(classes)} classes", flush=True)  # noqa: T201 - the log of the trial
    out.mkdir(parents=True, exist_ok=True)
    file = out / "model.onnx"
    network = Network(random_filters(training.pixels, generator), crop)
    network.save(file, "features")
    features, checked = run(file, training.pixels), run(file, validation.pixels)
    layers = [linear_layer(features, training.labels, len(classes), strength) for strength in _STRENGTHS]
    losses = [scores(checked @ weights + offsets, validation.labels)["log_loss"] for weights, offsets in layers]
    network.finish(*layers[int(np.argmin(losses))])
    network.save(file, "output1")
    (out / "labels.json").write_text(json.dumps(classes), encoding="utf-8")
    return scores(run(file, validation.pixels), validation.labels)


def main() -> None:
    """Train as the command line says, and log the metrics to MLflow."""
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    for name, kind in (("resize", int), ("crop", int), ("share", float), ("seed", int)):
        parser.add_argument(f"--{name}", type=kind, required=True)
    arguments: dict[str, Any] = vars(parser.parse_args())
    measured = train(**arguments)
    print(json.dumps(measured), flush=True)  # noqa: T201
    if os.environ.get("MLFLOW_TRACKING_URI"):
        import mlflow

        mlflow.log_metrics(measured)


if __name__ == "__main__":
    main()
