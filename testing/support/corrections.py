"""Corrections for tests, as the web frontend makes them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from vision_mlops.flask_app.corrections.correction import Correction, make_correction

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def corrected(image: bytes, label: str | None = "cat", **changes: Any) -> Correction:
    """The correction of an image; what is not said is always the same."""
    said: dict[str, Any] = {
        "suffix": ".png",
        "predicted": "dog",
        "model_name": "pets",
        "model_version": "3",
        "model_id": "abc",
        "request_id": "r-1",
        "who": "ann",
        "at": NOON,
    }
    return make_correction(image, label=label, **{**said, **changes})
