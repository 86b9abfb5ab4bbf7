"""A bundle with 8-bit integers in its graph, made from a trained one by post-training quantisation, and judged."""

from __future__ import annotations

import contextlib
import io
import logging
import random
import shutil
import statistics
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from vision_mlops.core.errors import BundleError, DataError, TrainingError, require
from vision_mlops.core.files import atomic_folder
from vision_mlops.core.text import counted
from vision_mlops.data.manifest import Manifest, SplitName, read_manifest
from vision_mlops.evaluation.metrics import summarise
from vision_mlops.evaluation.metrics_file import write_evaluation
from vision_mlops.model.bundle import CARD, WEIGHTS, Bundle, GoldenExample, Quantization, write_bundle
from vision_mlops.model.openvino_runtime import load_openvino, shared_core
from vision_mlops.model.predictor import Predictor

INT8_GRAPH = "model.xml"
_HEADLINE = ("accuracy", "expected_calibration_error")
_BATCH = 16
_ROUNDS = 15


@dataclass(frozen=True, slots=True)
class Quantized:
    """The result: shares from 0 to 1, bytes, and the speedup of an image on one thread."""

    bundle: Bundle
    folder: Path
    source_accuracy: float
    accuracy: float
    agreement: float
    max_difference: float
    source_bytes: int
    graph_bytes: int
    speedup: float


def quantize(
    source: Path, data: Path, out: Path, *, max_drop: float = 0.005, images: int = 300, seed: int = 0
) -> Quantized:
    """Write the int8 bundle of a bundle, unless too much accuracy is lost.

    Args:
        source: Bundle with a graph of floats.
        data: Prepared data of its classes: calibrated on ``train``, judged on ``test``.
        out: Folder of the new bundle; must not exist.
        max_drop: How much of the accuracy may be lost, 0 to 1.
        images: Maximum number of training images to calibrate on.
        seed: Seed for the choice of those images.

    Raises:
        BundleError: the source is broken, or int8 already.
        DataError: the data have other classes, or no images to calibrate on or to judge with.
        TrainingError: too much accuracy is lost; nothing is written.
        MissingExtraError: NNCF is not installed.
    """
    predictor = Predictor(source)
    bundle = predictor.bundle
    if bundle.quantization is not None:
        raise BundleError(f"{source} is int8 already", "give the bundle that it was made from")
    manifest = read_manifest(data)
    if manifest.classes != bundle.classes:
        raise DataError(
            f"{data} has the classes {', '.join(manifest.classes)}; the bundle knows {', '.join(bundle.classes)}",
            "give the data that the bundle was trained on, or later ones with the same classes",
        )
    chosen, test = _files(data, manifest, "train"), _files(data, manifest, "test")
    random.Random(seed).shuffle(chosen)
    chosen = chosen[:images]
    labels = np.array([bundle.classes.index(record.label) for record in manifest.of_split("test")])
    with atomic_folder(out) as folder:
        _write_graph(predictor, chosen, folder / INT8_GRAPH)
        shutil.copyfile(source / WEIGHTS, folder / WEIGHTS)
        for example in bundle.golden:
            (folder / example.file).parent.mkdir(exist_ok=True)
            shutil.copyfile(source / example.file, folder / example.file)
        draft = bundle.model_copy(update={"graph": INT8_GRAPH, "files": {}})
        write_bundle(folder, draft)
        candidate = Predictor(folder, verify=False)
        before, after = (side.score_files(test, batch_size=_BATCH) for side in (predictor, candidate))
        measured = [summarise(labels, scores, bundle.classes) for scores in (before, after)]
        lost = measured[0]["accuracy"] - measured[1]["accuracy"]
        if lost > max_drop + 1e-9:
            raise TrainingError(
                f"int8 loses {lost:.2%} of accuracy: {measured[1]['accuracy']:.4f} on {counted(len(test), 'test image')},"
                f" {measured[0]['accuracy']:.4f} before (limit {max_drop:.2%}); nothing was written",
                "serve the bundle as it is, calibrate on more images, or allow more with --max-drop",
            )
        complete = draft.model_copy(
            update={
                "created": datetime.now(UTC).isoformat(timespec="seconds"),
                "metrics": bundle.metrics | {f"test_{name}": float(measured[1][name]) for name in _HEADLINE},
                "golden": _golden(candidate, folder, bundle),
                "quantization": Quantization(
                    precision="int8", source_id=predictor.id, calibration_images=len(chosen),
                    source_accuracy=measured[0]["accuracy"], accuracy=measured[1]["accuracy"],
                ),
            }
        )  # fmt: skip
        write_evaluation(folder, labels, after, bundle.classes)
        (folder / CARD).write_text(_card(source, complete), encoding="utf-8")
        complete = write_bundle(folder, complete)
        speedup = _speedup(source, folder, test[:4])
        sizes = [sum(path.stat().st_size for path in root.glob("model.*")) for root in (source, folder)]
    return Quantized(
        bundle=complete,
        folder=out,
        source_accuracy=measured[0]["accuracy"],
        accuracy=measured[1]["accuracy"],
        agreement=float((before.argmax(1) == after.argmax(1)).mean()),
        max_difference=float(np.abs(before - after).max()),
        source_bytes=sizes[0],
        graph_bytes=sizes[1],
        speedup=speedup,
    )


def _files(data: Path, manifest: Manifest, split: SplitName) -> list[Path]:
    files = [data / record.path for record in manifest.of_split(split)]
    if not files:
        raise DataError(f"{data}: the split {split!r} has no images", "run `mlops data prepare` again")
    return files


def _write_graph(predictor: Predictor, files: list[Path], target: Path) -> None:
    with _quiet():
        openvino = load_openvino()
        require("nncf")
        import nncf

        model = shared_core().read_model(str(predictor.folder / predictor.bundle.graph))
        dataset = nncf.Dataset(files, lambda file: predictor.pixels(file)[None])
        # All activations symmetric: 9 % faster here than the mixed preset, and no less right.
        preset = nncf.QuantizationPreset.PERFORMANCE
        quantized = nncf.quantize(model, dataset, preset=preset, subset_size=len(files))
        openvino.save_model(quantized, str(target), compress_to_fp16=False)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep progress bars and advice off the terminal."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


def _golden(predictor: Predictor, folder: Path, source: Bundle) -> list[GoldenExample]:
    rows = predictor.score([predictor.pixels(folder / example.file) for example in source.golden]).probabilities
    return [
        example.model_copy(update={"probabilities": [round(float(value), 6) for value in row]})
        for example, row in zip(source.golden, rows, strict=True)
    ]


def _card(source: Path, bundle: Bundle) -> str:
    known = bundle.quantization
    assert known is not None
    card = source / CARD
    text = card.read_text(encoding="utf-8") if card.is_file() else f"# {bundle.name}\n"
    told = [
        "## int8",
        f"The graph was rounded to 8-bit integers, calibrated on {counted(known.calibration_images, 'training image')}.",
        f"It was made from bundle {known.source_id}, whose weights are included.",
        f"Accuracy on the test images: {known.accuracy:.4f}, before {known.source_accuracy:.4f}.",
    ]
    return f"{text}\n" + "\n".join(told) + "\n"


def _speedup(source: Path, folder: Path, files: list[Path]) -> float:
    """Return the source's time over the new one's, as a server runs them: one thread, the processor's own precision."""
    predictors = [Predictor(root, threads=1, precision="auto", verify=False) for root in (source, folder)]
    pixels = [predictors[0].pixels(file) for file in files]
    seconds: list[list[float]] = [[], []]
    for _ in range(_ROUNDS):
        for predictor, times in zip(predictors, seconds, strict=True):
            started = time.perf_counter()
            for image in pixels:
                predictor.score([image])
            times.append(time.perf_counter() - started)
    return statistics.median(seconds[0]) / statistics.median(seconds[1])
