"""Evaluate a bundle on one split of prepared data and write everything down.

mlops evaluate --bundle outputs/bundles/textile --data outputs/data/textile --out outputs/reports/textile
"""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vision_mlops.config.own_code import CodeReference
from vision_mlops.core.csv_cells import from_cell
from vision_mlops.core.errors import DataError, MlopsError
from vision_mlops.core.files import atomic_folder
from vision_mlops.data.manifest import ImageRecord, Manifest, SplitName, read_manifest
from vision_mlops.evaluation import evaluation_report, plots
from vision_mlops.evaluation.latency import measure_latency
from vision_mlops.evaluation.metrics import Floats, Labels, summarise
from vision_mlops.evaluation.metrics_file import read_metrics
from vision_mlops.evaluation.own_metrics import OWN_METRICS, OwnMetrics
from vision_mlops.evaluation.prediction_table import PredictionTable, write_predictions
from vision_mlops.evaluation.robustness import ROBUSTNESS, ROBUSTNESS_ACCURACY, Progress, measure_robustness
from vision_mlops.model.bundle import graph_bytes
from vision_mlops.model.explanations import overlay
from vision_mlops.model.predictor import Predictor

METRICS = "metrics.json"
PREDICTIONS = "predictions.csv"
MISTAKES = 12
_BATCH = 32


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The content of an evaluation folder: measures, and (path, true, predicted) per image."""

    folder: Path
    metrics: dict[str, Any]
    predictions: list[tuple[str, str, str]]


def evaluate(
    bundle: Path,
    data: Path,
    out: Path,
    *,
    split: SplitName = "test",
    robustness: bool = False,
    own_metrics: Sequence[CodeReference] = (),
    progress: Progress | None = None,
) -> Evaluation:
    """Score every image of a split and write metrics.json, predictions.csv, figures and report.html into ``out``.

    Args:
        bundle: The bundle.
        data: Prepared data with the classes of the bundle.
        out: Folder to write, whole or not at all; an earlier evaluation is replaced.
        split: Split to score.
        robustness: Score the images in all corruptions, too; the metrics get a section ``robustness``.
        own_metrics: Functions of the project; the metrics get a section ``metrics`` with what they return.
        progress: Called with (scored, total) images of the corrupted ones.

    Raises:
        ConfigError: a function of the project cannot be loaded, fails, or does not return a number.
        DataError: the data has other classes than the bundle, or the split is empty.
        BundleError: the bundle is broken.
    """
    manifest = read_manifest(data)
    if out.exists() and any(out.iterdir()) and not (out / METRICS).is_file():
        raise MlopsError(f"{out} is not empty and is not an evaluation", "choose another --out")
    own = OwnMetrics(own_metrics)
    predictor = Predictor(bundle)
    if predictor.classes != manifest.classes:
        raise DataError(
            f"{data} has the classes {', '.join(manifest.classes)}, but {bundle} knows {', '.join(predictor.classes)}",
            "evaluate on data with the classes that the model was trained on",
        )
    records = manifest.of_split(split)
    if not records:
        raise DataError(f"{data}: the split {split!r} has no images", "run `mlops data prepare` again")
    files = [data / record.path for record in records]
    probabilities = predictor.score_files(files, batch_size=_BATCH)
    labels = np.array([manifest.classes.index(record.label) for record in records])
    metrics = summarise(labels, probabilities, manifest.classes)
    metrics |= _facts(predictor, manifest, split, files, bundle) | own.measure(labels, probabilities)
    if robustness:
        metrics[ROBUSTNESS] = measure_robustness(bundle, data, records, progress)
    with atomic_folder(out, overwrite=True) as folder:
        plots.draw_all(folder, labels, probabilities, manifest.classes, metrics["confusion_matrix"])
        if robustness:
            plots.draw_robustness(folder, metrics["accuracy"], metrics[ROBUSTNESS])
        metrics["mistakes"] = _mistakes(folder, predictor, data, records, labels, probabilities)
        names, classes = [record.path for record in records], [record.label for record in records]
        table = PredictionTable(names, classes, probabilities)
        write_predictions(folder / PREDICTIONS, table, manifest.classes)
        (folder / METRICS).write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
        (folder / evaluation_report.REPORT).write_text(evaluation_report.render(folder, metrics), encoding="utf-8")
    return read_evaluation(out)


def read_evaluation(folder: Path) -> Evaluation:
    """Read what :func:`evaluate` wrote.

    Raises:
        MlopsError: the folder is no evaluation, or one of its files was damaged.
    """
    if not folder.exists():
        raise MlopsError(f"{folder} does not exist", "give the --out of `mlops evaluate`")
    try:
        metrics = read_metrics(folder / METRICS)
        with (folder / PREDICTIONS).open(encoding="utf-8", newline="") as stream:
            predictions = [
                (from_cell(row["path"]), from_cell(row["label"]), from_cell(row["predicted"]))
                for row in csv.DictReader(stream)
            ]
    except DataError:
        raise
    except (OSError, ValueError, KeyError) as error:
        raise MlopsError(f"{folder} is not an evaluation: {error}", "give the --out of `mlops evaluate`") from error
    return Evaluation(folder, metrics, predictions)


def headline(metrics: dict[str, Any]) -> dict[str, float]:
    """Return the few numbers that a run or a registry entry shows, by flat name."""
    robustness = metrics.get(ROBUSTNESS)
    return {
        "test_accuracy": metrics["accuracy"],
        "test_macro_f1": metrics["macro_f1"],
        "test_expected_calibration_error": metrics["expected_calibration_error"],
        "latency_ms": metrics["latency_ms"]["median"],
        **{f"test_{name}": value for name, value in metrics.get(OWN_METRICS, {}).items()},
        **({ROBUSTNESS_ACCURACY: robustness[ROBUSTNESS_ACCURACY]} if robustness is not None else {}),
    }


def _facts(
    predictor: Predictor, manifest: Manifest, split: SplitName, files: list[Path], bundle: Path
) -> dict[str, Any]:
    description = predictor.bundle
    return {
        "split": split,
        "name": description.name,
        "classes": manifest.classes,
        "data_fingerprint": manifest.fingerprint,
        "bundle_id": predictor.id,
        "backbone": description.backbone,
        "trained": description.created,
        "git_commit": description.git_commit,
        "run_id": description.run_id,
        "temperature": description.temperature,
        "graph_bytes": graph_bytes(bundle, description),
        "latency_ms": _latency(bundle, files),
    }


def _latency(bundle: Path, files: list[Path]) -> dict[str, float]:
    """Measure on one thread, as a worker of the server has it."""
    predictor = Predictor(bundle, threads=1, verify=False)
    return measure_latency(lambda file: predictor.score([predictor.pixels(file)]), files)


def _mistakes(
    folder: Path,
    predictor: Predictor,
    data: Path,
    records: list[ImageRecord],
    labels: Labels,
    probabilities: Floats,
) -> list[dict[str, Any]]:
    """Draw the most confident mistakes beside their heat maps; return what the report says of them."""
    predicted = probabilities.argmax(1)
    wrong = np.flatnonzero(predicted != labels)
    order = wrong[np.argsort(-probabilities[wrong].max(1), kind="stable")][:MISTAKES]
    found: list[dict[str, Any]] = []
    for number, index in enumerate(order):
        file = data / records[index].path
        size = predictor.bundle.preprocessing.image_size
        pixels = predictor.pixels(file)
        maps = predictor.score([pixels], explain=True).activation_maps
        assert maps is not None
        seen = Image.fromarray(pixels)
        pair = Image.new("RGB", (2 * size, size))
        pair.paste(seen, (0, 0))
        pair.paste(overlay(seen, maps[0, predicted[index]]), (size, 0))
        name = f"mistake_{number:02d}.png"
        pair.save(folder / name)
        found.append(
            {
                "image": name,
                "path": records[index].path,
                "label": records[index].label,
                "predicted": predictor.classes[predicted[index]],
                "probability": float(probabilities[index].max()),
            }
        )
    return found
