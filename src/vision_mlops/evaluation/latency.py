"""Measures how long a model takes for one image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from vision_mlops.core.work_timer import WorkTimer
from vision_mlops.evaluation.metrics import median_interval

IMAGES = 50
"""Images that are measured at most."""
_LOOKS = 2


def measure_latency(score: Callable[[Path], object], files: Sequence[Path]) -> dict[str, float]:
    """Measure the milliseconds from file to probabilities, one image at a time, without waits for a core.

    Args:
        score: Predicts one image; it is called once before the clock runs.
        files: Images to take; no more than :data:`IMAGES` are.
    """
    chosen = list(files[:IMAGES])
    score(chosen[0])
    times = []
    for file in chosen * _LOOKS:
        timer = WorkTimer()
        score(file)
        times.append(timer.milliseconds())
    return describe_latency(times, len(chosen))


def describe_latency(times: Sequence[float], images: int) -> dict[str, float]:
    """Return the median with its interval, the 95th percentile, and how many images were measured."""
    low, high = median_interval(times)
    return {
        "median": float(np.median(times)), "median_low": low, "median_high": high,
        "p95": float(np.percentile(times, 95)), "images": float(images),
    }  # fmt: skip
