"""Predictions of the test images, and how long one takes: here without waiting for a core, in a service as a round trip."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from vision_mlops.benchmark.benchmark_folder import WorkFolder
from vision_mlops.benchmark.contestant import Contestant, Probabilities
from vision_mlops.core.errors import MlopsError
from vision_mlops.core.text import counted
from vision_mlops.data.manifest import Manifest
from vision_mlops.evaluation.latency import IMAGES, describe_latency, measure_latency
from vision_mlops.evaluation.prediction_table import problem_of


def predict_and_measure(
    contestant: Contestant, data: Path, manifest: Manifest, work: WorkFolder
) -> tuple[Probabilities, dict[str, float]]:
    """Return the probabilities (N, C) of the test images, in the order of the manifest, and the latency of one image.

    Raises:
        MlopsError: what the contestant returns are no probabilities.
    """
    files = [data / record.path for record in manifest.of_split("test")]
    classes = len(manifest.classes)
    if contestant.hosted:
        return _predict_by_requests(contestant, files, classes, work, data)
    probabilities = _checked(contestant, files, classes)
    return probabilities, measure_latency(lambda file: contestant.predict([file]), files)


def _predict_by_requests(
    contestant: Contestant, files: list[Path], classes: int, work: WorkFolder, data: Path
) -> tuple[Probabilities, dict[str, float]]:
    """Predict each image once, because requests cost money; the first ones are measured."""
    kept = work.round_trips()
    rows = []
    for file in files[:IMAGES]:
        began = time.perf_counter()
        rows.append(_checked(contestant, [file], classes))
        kept.setdefault(file.relative_to(data).as_posix(), 1000 * (time.perf_counter() - began))
        work.keep_round_trips(kept)
    if files[IMAGES:]:
        rows.append(_checked(contestant, files[IMAGES:], classes))
    times = list(contestant.round_trips_ms()) or list(kept.values())
    return np.concatenate(rows), describe_latency(times, len(times))


def _checked(contestant: Contestant, files: list[Path], classes: int) -> Probabilities:
    found = contestant.predict(files)
    try:
        probabilities = np.asarray(found, np.float64)
        problem = problem_of(probabilities, len(files), classes)
    except (TypeError, ValueError) as error:
        problem = str(error)
    if problem:
        raise MlopsError(
            f"predict() of {counted(len(files), 'image')}: {problem}",
            "return an array (images, classes) in the order of manifest.classes, each row adding up to 1",
        )
    return probabilities
