"""The accuracy of a bundle on images that are blurred, noisy, compressed or pale.

Each image is decoded whole, corrupted as :mod:`vision_mlops.images.corruptions` describes it, and given to the bundle as a
file like any other: what happens to it from there, scaling first, is what happens to the image of a client.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from vision_mlops.core.cpu import available_cores
from vision_mlops.data.manifest import ImageRecord
from vision_mlops.evaluation.metrics import wilson_interval
from vision_mlops.images.corruptions import CORRUPTIONS, STRENGTHS, corrupt, level, limited
from vision_mlops.images.decoding import MAX_PIXELS, open_rgb
from vision_mlops.model.predictor import Predictor

ROBUSTNESS = "robustness"
"""Key of what :func:`measure_robustness` returns in the metrics of an evaluation."""
ROBUSTNESS_ACCURACY = "robustness_accuracy"
Progress = Callable[[int, int], None]


def measure_robustness(
    bundle: Path, data: Path, records: Sequence[ImageRecord], progress: Progress | None = None
) -> dict[str, Any]:
    """Score every image in every corruption and strength, on all cores.

    Args:
        bundle: A bundle.
        data: Prepared data.
        records: Images of it; their labels are classes of the bundle.
        progress: Called with (scored, total) after each image.

    Returns:
        ``robustness_accuracy``, the mean over all corruptions and strengths; ``images``; and ``corruptions``: by name,
        the mean ``accuracy``, and ``strengths``, each with its ``level``, ``accuracy`` and the 95% ``accuracy_interval``.
        The means have no interval, as they are of the same images again and again.
    """
    workers = min(available_cores(), len(records))
    # Corrupting takes up to half of the time: a predictor of one thread in each worker keeps all cores busy. The first
    # is verified, and so used by this thread: OpenVINO can block where two threads are the first to use it.
    predictors: SimpleQueue[Predictor] = SimpleQueue()
    for number in range(workers):
        predictors.put(Predictor(bundle, threads=1, verify=number == 0))
    of_thread = threading.local()
    correct: list[npt.NDArray[np.bool_]] = []

    def start() -> None:
        of_thread.predictor = predictors.get()

    pool = ThreadPoolExecutor(workers, initializer=start)
    try:
        for result in pool.map(lambda record: _correct(of_thread.predictor, data, record), records):
            correct.append(result)
            if progress is not None:
                progress(len(correct), len(records))
    finally:
        pool.shutdown(cancel_futures=True)
    return _summary(np.array(correct))


def _correct(predictor: Predictor, data: Path, record: ImageRecord) -> npt.NDArray[np.bool_]:
    """Return whether one image is classified correctly, for each corruption and strength."""
    largest = max(MAX_PIXELS, record.width * record.height)  # what was prepared is not refused
    image = limited(open_rgb(data / record.path, name=record.path, max_pixels=largest))
    files = (
        _as_file(corrupt(image, name, strength, record.sha256)) for name, strength in product(CORRUPTIONS, STRENGTHS)
    )
    probabilities = predictor.score([predictor.pixels(file, name=record.path) for file in files]).probabilities
    right = probabilities.argmax(1) == predictor.classes.index(record.label)
    return np.asarray(right.reshape(len(CORRUPTIONS), len(STRENGTHS)))


def _as_file(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "BMP")  # without loss, and without a compression that takes time
    return stream.getvalue()


def _summary(correct: npt.NDArray[np.bool_]) -> dict[str, Any]:
    """Return the numbers, from (images, corruptions, strengths)."""
    images = len(correct)
    corruptions = {}
    for name, column in zip(CORRUPTIONS, correct.sum(0), strict=True):
        strengths = [
            {
                "strength": strength,
                "level": level(name, strength),
                "accuracy": int(count) / images,
                "accuracy_interval": list(wilson_interval(int(count), images)),
            }
            for strength, count in zip(STRENGTHS, column, strict=True)
        ]
        corruptions[name] = {"accuracy": int(column.sum()) / (images * len(STRENGTHS)), "strengths": strengths}
    return {ROBUSTNESS_ACCURACY: float(correct.mean()), "images": images, "corruptions": corruptions}
