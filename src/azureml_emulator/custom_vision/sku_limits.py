"""How much an account of Custom Vision gives, by its pricing tier."""

from __future__ import annotations

from dataclasses import dataclass

IMAGES_A_BATCH = 64
TAGS_A_BATCH = 20
ITERATIONS_A_PROJECT = 20
IMAGES_A_TAG = 5
"""What each tag needs before a project can be trained."""
TAGS_TO_TRAIN = 2
TRAINING_BYTES = 6 * 1024 * 1024
PREDICTION_BYTES = 4 * 1024 * 1024


@dataclass
class SkuLimits:
    """Limits of a pricing tier, as the documentation has them; tests may tighten or loosen them. None is no limit.

    Attributes:
        projects: Of an account.
        images: Of a project.
        tags: Of a project.
        predictions: Of an account in a month.
        training_minutes: Of an account in a month.
        calls: Of an account in a second, to each of the two APIs.
    """

    projects: int
    images: int
    tags: int
    predictions: int | None
    training_minutes: int | None
    calls: int | None


def published_limits() -> dict[str, SkuLimits]:
    """The limits by the name of the tier."""
    return {
        "F0": SkuLimits(projects=2, images=5000, tags=50, predictions=10_000, training_minutes=60, calls=2),
        "S0": SkuLimits(projects=100, images=100_000, tags=500, predictions=None, training_minutes=None, calls=10),
    }
