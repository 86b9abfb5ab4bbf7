"""Reads every file once: its hash, whether it decodes, how it looks, and its features by a network."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

from vision_mlops.core.errors import ImageError
from vision_mlops.data.check.dataset_findings import ImageFile
from vision_mlops.data.check.feature_rows import RowFile
from vision_mlops.images.decoding import open_reduced
from vision_mlops.images.perceptual_hash import SIGNATURE, perceptual_hash, signature
from vision_mlops.images.resizing import Pixels, ResizeMode, resize

LOOK = 160
"""Larger images are reduced until their shorter edge has this many pixels: enough to recognise a blurred one."""
_MEASURED = 256  # longest edge of the picture whose sharpness is measured
_CHUNK = 8

Progress = Callable[[int, int], None]


class Embedder(Protocol):
    """A network's view of images. Called by several threads at once."""

    size: int
    resize: ResizeMode
    width: int

    def __call__(self, pixels: Pixels) -> npt.NDArray[np.float32]:
        """Turn uint8 pixels (N, size, size, 3) into features (N, width)."""


@dataclass(frozen=True, slots=True)
class ImageAppearance:
    """What one file is like.

    Brightness values are in grey levels, 0 to 255, ``dark`` and ``bright`` the 5th and 95th percentile. ``sharpness`` is the
    strength of edges relative to the contrast. Where ``reason`` is not empty the file could not be decoded, and ``message``
    says why; all other values but the hash are then 0.
    """

    sha256: bytes
    reason: str = ""
    message: str = ""
    width: int = 0
    height: int = 0
    mean: float = 0.0
    contrast: float = 0.0
    dark: float = 0.0
    bright: float = 0.0
    sharpness: float = 0.0
    phash: int = 0


@dataclass(slots=True)
class Scan:
    """The looks of all files in order, with signatures (N, 768) and features (N, F) on disk."""

    looks: list[ImageAppearance]
    signatures: RowFile
    features: RowFile | None

    @property
    def usable(self) -> npt.NDArray[np.int64]:
        """Indices of the files that could be decoded, rising."""
        return np.array([i for i, look in enumerate(self.looks) if not look.reason], np.int64)


@contextlib.contextmanager
def scan(
    entries: list[ImageFile],
    folder: Path,
    *,
    embedder: Embedder | None = None,
    max_pixels: int,
    progress: Progress | None = None,
) -> Iterator[Scan]:
    """Look at all files, reading each once.

    Decoding, resizing and the network leave Python's lock, so threads use all processors, and end with the process.

    Args:
        entries: The files.
        folder: Where the numbers of each image are kept for the time being; nothing stays there.
        embedder: Also computes features, if given.
        max_pixels: Images with more are not decoded.
        progress: Called with (done, total) after each few files.
    """
    with contextlib.ExitStack() as stack:
        signatures = stack.enter_context(RowFile(folder, SIGNATURE, np.uint8))
        features = stack.enter_context(RowFile(folder, embedder.width, np.float16)) if embedder else None
        looks: list[ImageAppearance] = []

        edge = max(LOOK, embedder.size if embedder else 0)

        def work(start: int) -> list[ImageAppearance]:
            found: list[ImageAppearance] = []
            pixels: dict[int, Pixels] = {}
            for index, entry in enumerate(entries[start : start + _CHUNK], start=start):
                look, image = _read(entry, edge, max_pixels)
                found.append(look)
                if image is None:
                    continue
                signatures.write(index, signature(image))
                if embedder is not None:
                    pixels[index] = resize(np.asarray(image), embedder.size, embedder.resize)
            if embedder is not None and features is not None and pixels:
                for index, row in zip(pixels, embedder(np.stack(list(pixels.values()))), strict=True):
                    features.write(index, row)
            return found

        pool = ThreadPool(os.cpu_count() or 1)
        try:
            for found in pool.imap(work, range(0, len(entries), _CHUNK)):
                looks += found
                if progress is not None:
                    progress(len(looks), len(entries))
        finally:
            pool.terminate()
            pool.join()  # a thread that is still at work writes into the files that are closed next
        yield Scan(looks, signatures, features)


def _read(entry: ImageFile, edge: int, max_pixels: int) -> tuple[ImageAppearance, Image.Image | None]:
    try:
        data = entry.place.read_bytes()
    except OSError as error:
        return ImageAppearance(b"", "unreadable", f"{entry.path}: cannot be read ({error.strerror or error})"), None
    digest = hashlib.sha256(data).digest()
    try:
        image, (width, height) = open_reduced(data, edge, name=entry.path, max_pixels=max_pixels)
    except ImageError as error:
        return ImageAppearance(digest, error.reason, error.message), None
    grey = image.convert("L")
    return ImageAppearance(digest, width=width, height=height, phash=perceptual_hash(grey), **_appearance(grey)), image


def _appearance(grey: Image.Image) -> dict[str, Any]:
    """Measure brightness, contrast and sharpness at one size, so that images of all sizes compare."""
    longest = max(grey.size)
    if longest > _MEASURED:
        size = (max(1, round(grey.width * _MEASURED / longest)), max(1, round(grey.height * _MEASURED / longest)))
        grey = grey.resize(size, Image.Resampling.BOX)
    histogram = np.array(grey.histogram()[:256], np.float64)
    levels = np.arange(256)
    total = histogram.sum()
    mean = float(histogram @ levels / total)
    contrast = float(np.sqrt(max(0.0, float(histogram @ (levels - mean) ** 2) / total)))
    dark, bright = np.searchsorted(np.cumsum(histogram), (0.05 * total, 0.95 * total))
    return {"mean": mean, "contrast": contrast, "dark": float(dark), "bright": float(bright),
            "sharpness": _edges(grey) / max(contrast, 1.0)}  # fmt: skip


def _edges(grey: Image.Image) -> float:
    """Return the standard deviation of the Laplacian, in grey levels. Pech-Pacheco et al., Diatom autofocusing, 2000."""
    values = np.asarray(grey, np.int16)
    if min(values.shape) < 3:
        return 0.0
    inside = values[1:-1, 1:-1]
    laplacian = values[:-2, 1:-1] + values[2:, 1:-1] + values[1:-1, :-2] + values[1:-1, 2:] - 4 * inside
    return float(laplacian.std(dtype=np.float32))
