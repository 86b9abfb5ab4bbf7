"""Damage to images as cameras and networks cause it: blur, noise, compression and lost contrast, each in five strengths.

The parameters are those of ImageNet-C (Hendrycks and Dietterich, 2019), made for images with an edge of 224 pixels. An image
is corrupted as it was decoded, before it is scaled to the input of a network, with parameters scaled to its own size: so the
damage is the same for every model, also for one that is reached over HTTP. Noise and compression would hardly show in a
photograph of many megapixels that is scaled down afterwards, so that :func:`limited` reduces larger images first.

The result depends on content, corruption and strength alone: the same image is damaged in the same way each time.
"""

from __future__ import annotations

import hashlib
import io
from typing import Final, Literal, get_args

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from vision_mlops.images.resizing import Pixels

CorruptionName = Literal["blur", "noise", "jpeg", "contrast"]
CORRUPTIONS: Final[tuple[CorruptionName, ...]] = get_args(CorruptionName)
STRENGTHS: Final = (1, 2, 3, 4, 5)
LARGEST_EDGE: Final = 512
"""Pixels of the shorter edge of an image that is corrupted; a longer one is reduced to it."""

_UNIT = 224
_LEVELS: Final[dict[CorruptionName, tuple[float, ...]]] = {
    # What leaves an image as it is, then strengths 1 to 5.
    "blur": (0.0, 1.0, 2.0, 3.0, 4.0, 6.0),  # standard deviation in pixels
    "noise": (0.0, 0.08, 0.12, 0.18, 0.26, 0.38),  # standard deviation as a share of white
    "jpeg": (95.0, 25.0, 18.0, 15.0, 10.0, 7.0),  # quality of the encoder
    "contrast": (1.0, 0.4, 0.3, 0.2, 0.1, 0.05),  # share that is left
}


def level(name: CorruptionName, strength: float) -> float:
    """Return the parameter of a corruption at a strength from 0 (none) to 5, interpolated between two strengths."""
    return float(np.interp(strength, range(len(_LEVELS[name])), _LEVELS[name]))


def limited(image: Image.Image) -> Image.Image:
    """Return the image, reduced if its shorter edge is longer than :data:`LARGEST_EDGE`."""
    shorter = min(image.size)
    if shorter <= LARGEST_EDGE:
        return image
    width, height = (round(edge * LARGEST_EDGE / shorter) for edge in image.size)
    return image.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=2.0)


def corrupt(image: Image.Image, name: CorruptionName, strength: float, content: str) -> Image.Image:
    """Corrupt an image.

    Args:
        image: RGB, as :func:`~vision_mlops.images.decoding.open_rgb` and :func:`limited` give it.
        name: What is done to it.
        strength: 0 (nothing) to 5, as of :data:`STRENGTHS`.
        content: Identifies the image, such as its sha256: noise is drawn from it. At another strength, the noise of an
            image is the same but stronger.

    Returns:
        A new RGB image of the same size, or the same image at strength 0.
    """
    if strength == 0:
        return image
    value = level(name, strength)
    scale = min(image.size) / _UNIT
    if name == "blur":
        return image.filter(ImageFilter.GaussianBlur(value * scale))
    if name == "jpeg":
        with Image.open(io.BytesIO(as_jpeg(image, strength)), formats=("JPEG",)) as stored:
            return stored.convert("RGB")
    if name == "noise":
        pixels = np.asarray(image, np.float32)
        # Scaling down averages noise away, and scaling up does not.
        deviation = np.float32(255 * value * max(1.0, scale))
        drawn = random_of(content, name).standard_normal(pixels.shape, np.float32)
        return Image.fromarray(_rounded(pixels + deviation * drawn))
    means = np.asarray(image).mean((0, 1), dtype=np.float32)[:, None]  # of the channels
    return image.point(
        _rounded((np.arange(256, dtype=np.float32) - means) * np.float32(value) + means).ravel().tolist()
    )


def as_jpeg(image: Image.Image, strength: float) -> bytes:
    """Return the image as a JPEG file of the quality that a strength stands for; at 0, a good one."""
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=round(level("jpeg", strength)))
    return stream.getvalue()


def random_of(content: str, purpose: str) -> np.random.Generator:
    """Return a generator whose random numbers are the same for the same content and purpose."""
    digest = hashlib.sha256(f"{content}\0{purpose}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "big"))


def _rounded(values: npt.NDArray[np.float32]) -> Pixels:
    return np.asarray(np.clip(np.rint(values), 0, 255), np.uint8)
