"""A tiny prepared folder for tests: coloured squares with noise, in all three splits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from vision_mlops.core.hashing import file_hash
from vision_mlops.data.manifest import SPLITS, ImageRecord, Manifest, write_manifest

COLOURS = {"blue": (40, 60, 200), "green": (50, 180, 60), "red": (200, 50, 40)}


def make_prepared(
    folder: Path, *, train: int = 8, val: int = 4, test: int = 4, size: int = 40, seed: int = 0
) -> Manifest:
    """Write ``train``, ``val`` and ``test`` images per class of COLOURS as PNG, with their manifest."""
    generator = np.random.default_rng(seed)
    records: list[ImageRecord] = []
    for split, count in zip(SPLITS, (train, val, test), strict=True):
        for label, colour in COLOURS.items():
            (folder / split / label).mkdir(parents=True, exist_ok=True)
            for number in range(count):
                noise = generator.normal(0, 20, (size, size, 3))
                pixels = np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)
                path = folder / split / label / f"{number:03d}.png"
                Image.fromarray(pixels).save(path)
                relative = path.relative_to(folder).as_posix()
                records.append(ImageRecord(path=relative, split=split, label=label, sha256=file_hash(path), width=size,
                                           height=size))  # fmt: skip
    return write_manifest(
        folder, Manifest(name="colours", source="generated", seed=seed, classes=sorted(COLOURS), images=records)
    )
