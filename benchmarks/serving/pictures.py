"""The pictures to send: the example images as they are, and photos of twelve megapixels made from them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from benchmarks.serving.environments import REPOSITORY, cache
from PIL import Image

LARGE_SIZE = (4032, 3024)
_LARGE_OF = ("global", "local", "nominal")
_QUALITY = 92
_NOISE = 7.5
"""Standard deviation of the noise before smoothing, in grey levels: it makes the files as large as a phone's."""


def small() -> list[Path]:
    """Return the example images, JPEGs of 250 x 250."""
    return sorted((REPOSITORY / "data" / "examples").glob("*.jpg"))


def large() -> list[Path]:
    """Return JPEGs of 4032 x 3024, one of each class, created once: the same on every machine with the same Pillow."""
    folder = cache() / "pictures"
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for number, name in enumerate(_LARGE_OF):
        file = folder / f"{name}_{LARGE_SIZE[0]}x{LARGE_SIZE[1]}_q{_QUALITY}_n{_NOISE:g}.jpg"
        if not file.is_file():
            _enlarge(REPOSITORY / "data" / "examples" / f"{name}.jpg", file, seed=number)
        files.append(file)
    return files


def _enlarge(source: Path, target: Path, seed: int) -> None:
    """Scale an image up and add the noise of a sensor: from pixel to pixel, and smoothed as by its colour filter."""
    image = Image.open(source).convert("RGB").resize(LARGE_SIZE, Image.Resampling.BICUBIC)
    noise = np.random.default_rng(seed).normal(0, _NOISE, (LARGE_SIZE[1], LARGE_SIZE[0], 3)).astype(np.float32)
    smooth = (noise + np.roll(noise, 1, 0) + np.roll(noise, 1, 1)) / np.float32(2)
    pixels = np.clip(np.asarray(image, np.float32) + smooth, 0, 255).astype(np.uint8)
    temporary = target.with_suffix(".part")
    Image.fromarray(pixels).save(temporary, "JPEG", quality=_QUALITY)
    temporary.replace(target)
