"""From a trained network to a bundle, refused where the exported graph does not agree with the network."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from vision_mlops.core.errors import TrainingError
from vision_mlops.core.text import in_markdown
from vision_mlops.data.manifest import Manifest
from vision_mlops.evaluation.metrics_file import write_evaluation
from vision_mlops.model.bundle import CARD, GRAPH, WEIGHTS, Bundle, GoldenExample, write_bundle
from vision_mlops.model.network import Classifier, ExportedClassifier
from vision_mlops.model.onnx_graph import write_onnx
from vision_mlops.model.predictor import Predictor
from vision_mlops.training.training_batches import ImageSplit

MIN_AGREEMENT = 0.995
MAX_DIFFERENCE = 0.02
GOLDEN_PER_CLASS = 2


def logits(network: nn.Module, split: ImageSplit, batch_size: int) -> Tensor:
    """Compute the logits (N, C), float32, of every image without augmentation, in evaluation mode and full precision."""
    network.eval()
    device = next(network.parameters()).device
    with torch.inference_mode():
        parts = [network(images.to(device)).float().cpu() for images in split.batches(batch_size)]
    return torch.cat(parts)


def probabilities(network: Classifier, temperature: float, split: ImageSplit, batch_size: int) -> np.ndarray:
    """Compute calibrated probabilities (N, C), float32."""
    return (logits(network, split, batch_size) / temperature).softmax(1).numpy()


def export(
    folder: Path, bundle: Bundle, network: Classifier, split: ImageSplit, manifest: Manifest, *, batch_size: int
) -> Bundle:
    """Write a whole bundle into ``folder`` and prove its parity on ``split``.

    Raises:
        TrainingError: the graph agrees on less than 99.5% of the labels, or differs by more than 0.02 in a probability.
    """
    network = network.to("cpu").eval()
    write_graph(folder / GRAPH, network, bundle.temperature)
    weights = folder / WEIGHTS
    weights.touch()
    mode = weights.stat().st_mode
    save_file({key: value.contiguous() for key, value in network.state_dict().items()}, weights)
    weights.chmod(mode)  # safetensors writes it for its owner only, whatever the umask
    expected = probabilities(network, bundle.temperature, split, batch_size)
    golden = _golden(folder, split, manifest.classes, expected)
    draft = write_bundle(folder, bundle.model_copy(update={"golden": golden}))
    predictor = Predictor(folder, verify=False)
    exported = np.concatenate([predictor.score(list(part.numpy())).probabilities for part in split.batches(batch_size)])
    parity = _parity(exported, expected)
    write_evaluation(folder, np.array(split.labels), exported, manifest.classes)
    metrics = {**bundle.metrics, "test_accuracy": float((expected.argmax(1) == np.array(split.labels)).mean())}
    complete = draft.model_copy(update={"parity": parity, "metrics": metrics})
    (folder / CARD).write_text(model_card(complete, manifest), encoding="utf-8")
    if parity["agreement"] < MIN_AGREEMENT or parity["max_difference"] > MAX_DIFFERENCE:
        raise TrainingError(
            f"the exported graph does not reproduce the network: {parity['agreement']:.1%} of labels agree"
            f" (at least {MIN_AGREEMENT:.1%}), probabilities differ by up to {parity['max_difference']:.3f}"
            f" (at most {MAX_DIFFERENCE})",
            "try another backbone, or check the versions of torch and openvino",
        )
    return write_bundle(folder, complete)


def write_graph(path: Path, network: Classifier, temperature: float) -> None:
    """Write the ONNX graph: uint8 images (N, S, S, 3) to probabilities (N, C) and activation_map (N, C, h, w)."""
    model = ExportedClassifier(network, temperature)
    write_onnx(path, model, network.config.image_size, ["probabilities", "activation_map"])


def _golden(folder: Path, split: ImageSplit, classes: list[str], expected: np.ndarray) -> list[GoldenExample]:
    """Copy the first test images of each class, with the network's probabilities."""
    (folder / "golden").mkdir()
    examples: list[GoldenExample] = []
    for index, label in enumerate(classes):
        for place in [i for i, given in enumerate(split.labels) if given == index][:GOLDEN_PER_CLASS]:
            # Own names: what a user calls a file or a class need not be a good file name elsewhere.
            name = f"golden/{len(examples):03d}{split.files[place].suffix.lower()}"
            shutil.copyfile(split.files[place], folder / name)
            rounded = [round(float(value), 6) for value in expected[place]]
            examples.append(GoldenExample(file=name, label=label, probabilities=rounded))
    return examples


def _parity(got: np.ndarray, expected: np.ndarray) -> dict[str, float]:
    return {
        "agreement": float((got.argmax(1) == expected.argmax(1)).mean()),
        "max_difference": float(np.abs(got - expected).max()),
        "images": float(len(expected)),
    }


def model_card(bundle: Bundle, manifest: Manifest) -> str:
    """Return the model card in Markdown: what the model is, what it was trained on, and how good it is."""
    counts = manifest.counts()
    rows = [f"| {in_markdown(label)} | {counts['train'][label]} | {counts['val'][label]} | {counts['test'][label]} |"
            for label in bundle.classes]  # fmt: skip
    metrics = "\n".join(f"- {key}: {value:.4f}" for key, value in sorted(bundle.metrics.items()))
    return "\n".join([
        f"# {bundle.name}",
        "",
        f"Image classifier with {len(bundle.classes)} classes, fine-tuned from `{bundle.backbone}` on {bundle.created}.",
        f"Input: RGB images scaled ({bundle.preprocessing.resize}) to {bundle.preprocessing.image_size} pixels.",
        "",
        "## Data",
        f"Source `{manifest.source}`, fingerprint `{bundle.data_fingerprint}`.",
        "",
        "| class | train | val | test |",
        "| --- | --- | --- | --- |",
        *rows,
        "",
        "## Metrics",
        metrics,
        "",
        "## Limits",
        "Probabilities are calibrated on images like the validation split. An image of anything else still gets one of",
        "these classes: the model has no class for the unknown.",
        "",
    ])  # fmt: skip


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """Return the temperature that minimises the negative log-likelihood of (N, C) logits and (N,) labels, 0.05 to 20.

    The likelihood is unimodal in the temperature's logarithm, so a bounded search over it finds the minimum.
    """
    from scipy.optimize import minimize_scalar

    logits = logits.double()

    def loss(log_temperature: float) -> float:
        return float(torch.nn.functional.cross_entropy(logits / math.exp(log_temperature), labels))

    found = minimize_scalar(loss, bounds=(math.log(0.05), math.log(20.0)), method="bounded", options={"xatol": 1e-4})
    return math.exp(found.x)
