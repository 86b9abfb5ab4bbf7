"""The limits of an account of Custom Vision, by its pricing tier."""

from __future__ import annotations

from dataclasses import dataclass

IMAGES_A_BATCH = 64
TAGS_A_BATCH = 20
ITERATIONS_A_PROJECT = 20
IMAGES_A_TAG = 5
"""Minimum number of images of each tag before a project can be trained."""
TAGS_TO_TRAIN = 2
TRAINING_BYTES = 6 * 1024 * 1024
PREDICTION_BYTES = 4 * 1024 * 1024


@dataclass
class SkuLimits:
    """Documented limits of a pricing tier; tests may tighten or loosen them. None is no limit.

    Attributes:
        projects: Projects of an account.
        images: Images of a project.
        tags: Tags of a project.
        predictions: Predictions of an account in a month.
        training_minutes: Minutes of training of an account in a month.
        calls: Calls of an account in a second, to each of the two APIs.
    """

    projects: int
    images: int
    tags: int
    predictions: int | None
    training_minutes: int | None
    calls: int | None


def published_limits() -> dict[str, SkuLimits]:
    """Return the limits by the name of the tier."""
    return {
        "F0": SkuLimits(projects=2, images=5000, tags=50, predictions=10_000, training_minutes=60, calls=2),
        "S0": SkuLimits(projects=100, images=100_000, tags=500, predictions=None, training_minutes=None, calls=10),
    }
