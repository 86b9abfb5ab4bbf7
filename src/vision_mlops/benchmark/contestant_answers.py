"""What a contestant reports after it has learned, and its predictions; checked, as its class may be a user's own."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from vision_mlops.benchmark.benchmark_folder import WorkFolder
from vision_mlops.benchmark.benchmark_result import UsedAmounts
from vision_mlops.benchmark.contestant import Contestant, Probabilities, Usage
from vision_mlops.core.errors import MlopsError
from vision_mlops.core.text import counted
from vision_mlops.data.manifest import Manifest
from vision_mlops.evaluation.latency import IMAGES, describe_latency, measure_latency
from vision_mlops.evaluation.prediction_table import problem_of


def answers_of(contestant: Contestant) -> dict[str, Any]:
    """Ask a contestant, and return the answers as fields of a result.

    Raises:
        MlopsError: an answer is not what the method should return; the message names the method.
    """
    size = _asked("size_bytes", contestant.size_bytes(), _is_count, "a whole number of bytes")
    seconds = _asked("training_seconds", contestant.training_seconds(), _is_amount, "seconds as a number of 0 or more")
    used = _asked("usage", contestant.usage(), lambda found: isinstance(found, Usage), "a Usage")
    remark = contestant.remark()
    if not isinstance(remark, str):
        raise MlopsError(f"remark() returned {remark!r}", "return a text, which may be empty")
    return {
        "size_bytes": None if size is None else int(size),
        "training_seconds": None if seconds is None else float(seconds),
        "usage": _amounts(used),
        "remark": remark,
    }


def _asked(method: str, found: Any, is_right: Callable[[Any], bool], what: str) -> Any:
    if found is not None and not is_right(found):
        raise MlopsError(f"{method}() returned {found!r}", f"return {what}, or None")
    return found


def _is_count(found: Any) -> bool:
    return isinstance(found, Integral) and int(found) >= 0


def _is_amount(found: Any) -> bool:
    return isinstance(found, Real) and 0 <= float(found) < math.inf


def _amounts(used: Usage | None) -> UsedAmounts | None:
    if used is None:
        return None
    try:
        return UsedAmounts(training=dict(used.training), per_prediction=dict(used.per_prediction))
    except (ValidationError, TypeError, ValueError) as error:
        raise MlopsError(
            f"usage() returned {used!r}",
            "give each amount, a number of 0 or more, by the key of its price in prices.yml",
        ) from error


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
