"""The shipped training pipeline in seconds: settings that make it quick, and images that are learned at once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

QUICK = (
    "model.backbone=test_resnet", "model.pretrained=false", "model.image_size=32", "model.frozen_stages=0",
    "training.epochs=4", "training.batch_size=8", "gate.max_calibration_error=0.9", "gate.min_accuracy=0.5",
    "gate.min_recall_per_class=0.0",
)  # fmt: skip


def write_colours(folder: Path) -> Path:
    """Write red and blue images into class folders; returns the folder."""
    generator = np.random.default_rng(0)
    for label, colour in {"red": (200, 40, 40), "blue": (40, 40, 200)}.items():
        (folder / label).mkdir(parents=True)
        for number in range(20):
            noise = np.clip(np.array(colour) + generator.normal(0, 20, (32, 32, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(noise).save(folder / label / f"{number}.png")
    return folder


def changes(items: tuple[str, ...] = QUICK) -> list[str]:
    """Settings as words of a command line."""
    return [part for item in items for part in ("--set", item)]
