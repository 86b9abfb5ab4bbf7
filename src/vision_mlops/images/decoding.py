"""From encoded bytes to the pixels that the network sees: the only place where an image is decoded or resized.

Training, evaluation, batch scoring and the server all call :func:`load_pixels`, so they cannot disagree. JPEGs are decoded
by :mod:`vision_mlops.images.jpeg` where it gives the pixels that Pillow gives, in two fifths of the time; all else by
Pillow.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from vision_mlops.core.errors import ImageError
from vision_mlops.images.jpeg import Pixels, decode_jpeg
from vision_mlops.images.pillow_warnings import QUIET

__all__ = [
    "IMAGE_SUFFIXES",
    "MAX_PIXELS",
    "Pixels",
    "ResizeMode",
    "load_pixels",
    "open_reduced",
    "open_rgb",
    "read_size",
    "resize",
]

ResizeMode = Literal["squash", "crop"]

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp"})
_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
MAX_PIXELS = 50_000_000
"""Largest accepted width x height. A header that claims more is refused before any pixel is decoded."""

_ORIENTATION = 0x0112  # EXIF tag; 5 to 8 are turned by a quarter
_MARGIN = 2
"""A reduced image is at least so many times as large as what it is scaled to; Pillow's thumbnails have the same."""
_HINT = "replace or remove the file"


def open_rgb(source: bytes | Path, *, name: str = "", max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Decode one image completely and upright.

    Args:
        source: Encoded bytes, or the path of a file.
        name: What an error calls the image; the path where nothing is given.
        max_pixels: Upper bound of width x height, checked on the header.

    Returns:
        An RGB image, EXIF orientation applied; transparency is put on white and 16-bit greyscale scaled to 8.

    Raises:
        ImageError: with reason ``empty``, ``unreadable``, ``too_large``, ``truncated``, ``not_an_image`` or ``corrupt``.
    """
    data, label = _read(source, name)
    pixels = decode_jpeg(data, None, max_pixels)
    return _open(data, label, max_pixels, None)[0] if pixels is None else Image.fromarray(pixels)


def _read(source: bytes | Path, name: str) -> tuple[bytes, str]:
    """The bytes, and what an error calls them."""
    label = name or (str(source) if isinstance(source, Path) else "image")
    try:
        return source.read_bytes() if isinstance(source, Path) else source, label
    except OSError as error:
        raise ImageError(f"{label}: cannot be read ({error.strerror or error})", _HINT, "unreadable") from error


def open_reduced(
    data: bytes, edge: int, *, name: str = "image", max_pixels: int = MAX_PIXELS
) -> tuple[Image.Image, tuple[int, int]]:
    """Like :func:`open_rgb`, but a JPEG may be decoded at 1/2, 1/4 or 1/8 of its scale, no edge shorter than ``edge``.

    The decoder reads the whole file all the same, so that a truncated one is found. For looking at many images, not for
    what the network is trained on or asked about.

    Returns:
        The RGB image, upright, and the (width, height) of the original, upright as well.

    Raises:
        ImageError: as :func:`open_rgb`.
    """
    return _open(data, name, max_pixels, edge)


def _open(data: bytes, label: str, max_pixels: int, edge: int | None) -> tuple[Image.Image, tuple[int, int]]:
    """Decode; with an ``edge``, at reduced scale where the format can. Returns the image and the original's size."""
    if not data:
        raise ImageError(f"{label}: the file is empty (0 bytes)", _HINT, "empty")
    with _decoding(label):
        image = Image.open(io.BytesIO(data), formats=_FORMATS)
        width, height = image.size
        if width * height > max_pixels:
            raise ImageError(
                f"{label}: {width} x {height} pixels is more than the limit of {max_pixels:,}",
                "scale the image down",
                "too_large",
            )
        if edge is not None:
            image.draft(None, (edge, edge))
        image.load()
        return _to_rgb(ImageOps.exif_transpose(image)), _as_displayed(image, width, height)


def _as_displayed(image: Image.Image, width: int, height: int) -> tuple[int, int]:
    """Width and height after the turn that the image's EXIF asks for."""
    turned = image.getexif().get(_ORIENTATION, 1) in (5, 6, 7, 8)
    return (height, width) if turned else (width, height)


def read_size(source: bytes | Path) -> tuple[int, int]:
    """Width and height in pixels, as displayed, from an image's header alone: what follows it may still be broken.

    Raises:
        ImageError: with reason ``unreadable``, ``too_large``, ``not_an_image`` or ``corrupt``.
    """
    label = str(source) if isinstance(source, Path) else "image"
    try:
        with io.BytesIO(source) if isinstance(source, bytes) else source.open("rb") as stream, _decoding(label):
            image = Image.open(stream, formats=_FORMATS)
            return _as_displayed(image, *image.size)
    except OSError as error:
        raise ImageError(f"{label}: cannot be read ({error.strerror or error})", _HINT, "unreadable") from error


@contextmanager
def _decoding(label: str) -> Iterator[None]:
    """Translate every way in which Pillow refuses an image into one ImageError."""
    try:
        with QUIET:
            yield
    except ImageError:
        raise
    except Image.DecompressionBombError as error:
        raise ImageError(f"{label}: {error}", "scale the image down", "too_large") from error
    except UnidentifiedImageError as error:
        raise ImageError(f"{label}: not an image in a known format", _HINT, "not_an_image") from error
    except Exception as error:  # Pillow's plugins raise a dozen types on broken input: struct.error, EOFError, ...
        reason = "truncated" if "truncated" in str(error).lower() else "corrupt"
        raise ImageError(f"{label}: cannot be decoded ({error})", _HINT, reason) from error


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        values = np.nan_to_num(np.asarray(image, dtype=np.float32), posinf=0.0, neginf=0.0)
        # I;16 is 16-bit greyscale: 65535 is white, however dark the image. I and F do not say what is white.
        brightest = values.max(initial=0)
        if image.mode == "F":
            top = 1.0 if brightest <= 1 else 255.0
        else:
            top = 65535.0 if image.mode != "I" or brightest > 255 else 255.0
        image = Image.fromarray(np.rint(np.clip(values, 0, top) * (255.0 / top)).astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        image = Image.new("RGB", rgba.size, (255, 255, 255))
        image.paste(rgba, mask=rgba.getchannel("A"))
    return image if image.mode == "RGB" else image.convert("RGB")


def resize(image: Image.Image, size: int, mode: ResizeMode = "squash") -> Pixels:
    """Scale an RGB image to the square that the network takes.

    Args:
        image: RGB image of any size.
        size: Edge of the result in pixels.
        mode: ``squash`` scales both edges, so nothing is cut; ``crop`` keeps proportions and cuts the centre.

    Returns:
        Contiguous array of shape (size, size, 3), dtype uint8.
    """
    if mode == "crop":
        image = ImageOps.fit(image, (size, size), Image.Resampling.BILINEAR)
    elif image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.BILINEAR)
    return np.ascontiguousarray(np.asarray(image, dtype=np.uint8))


def load_pixels(
    source: bytes | Path,
    size: int,
    mode: ResizeMode = "squash",
    *,
    scaled: bool = True,
    name: str = "",
    max_pixels: int = MAX_PIXELS,
) -> Pixels:
    """Decode and resize in one go.

    Args:
        source: Encoded bytes, or the path of a file.
        size: Edge of the result in pixels.
        mode: As of :func:`resize`.
        scaled: Decode a JPEG at 1/2, 1/4 or 1/8 of its size where both edges remain twice ``size`` or longer. A model must
            be asked as it was trained: its bundle says how.
        name: What an error calls the image; the path where nothing is given.
        max_pixels: Upper bound of width x height, checked on the header.

    Returns:
        (size, size, 3) uint8, which may be read-only.

    Raises:
        ImageError: as :func:`open_rgb`.
    """
    data, label = _read(source, name)
    edge = _MARGIN * size if scaled else None
    pixels = decode_jpeg(data, edge, max_pixels)
    if pixels is None:
        return resize(_open(data, label, max_pixels, edge)[0], size, mode)
    if pixels.shape[:2] == (size, size):
        return pixels
    return resize(Image.fromarray(pixels), size, mode)
