"""The limits of a SKU, checked before anything is sent. The figures are those of Microsoft's documentation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from vision_mlops.config.custom_vision_settings import PREFIX
from vision_mlops.core.errors import DataError
from vision_mlops.core.text import counted, few

LEAST_PER_TAG = 5


@dataclass(frozen=True, slots=True)
class AccountLimits:
    """Limits of a project, calls per second, and predictions per month (None: unlimited, for money)."""

    images: int
    tags: int
    per_second: int
    predictions: int | None


LIMITS: Mapping[Literal["F0", "S0"], AccountLimits] = {
    "F0": AccountLimits(5_000, 50, 2, 10_000),
    "S0": AccountLimits(100_000, 500, 10, None),
}


def check_sizes(sku: Literal["F0", "S0"], images: Mapping[str, int]) -> None:
    """Refuse data that the service would refuse after an upload.

    Args:
        sku: SKU of the account that trains.
        images: Number of different images by class.

    Raises:
        DataError: there are too few classes or images of a class, or more than the SKU allows.
    """
    limits, total = LIMITS[sku], sum(images.values())
    larger = f"; an account of the SKU S0, with {PREFIX}SKU=S0, accepts more" if sku == "F0" else ""
    if len(images) < 2:
        raise DataError("Custom Vision needs at least two classes", "add images of another class")
    if scarce := [f"{name!r} has {count}" for name, count in images.items() if count < LEAST_PER_TAG]:
        raise DataError(
            f"Custom Vision needs {LEAST_PER_TAG} different training images of a class: {few(scarce)}",
            "add images, or remove the class",
        )
    if len(images) > limits.tags:
        raise DataError(
            f"Custom Vision with the SKU {sku} accepts {limits.tags} classes, the data has {len(images)}",
            f"remove classes{larger}",
        )
    if total > limits.images:
        raise DataError(
            f"Custom Vision with the SKU {sku} accepts {counted(limits.images, 'training image')}, the data has {total:,}",
            f"remove images{larger}",
        )


def prediction_warning(sku: Literal["F0", "S0"], images: int) -> str:
    """Return the warning for a benchmark that cannot be finished within a month; empty if it can."""
    most = LIMITS[sku].predictions
    if most is None or images <= most:
        return ""
    return (
        f"warning: there are {images:,} test images, and the SKU {sku} predicts {most:,} per month: the benchmark stops at"
        f" its quota, and continues in the next month; an account of the SKU S0, with {PREFIX}SKU=S0, has no such quota"
    )
