"""From encoded bytes to the pixels that the network sees: the only place where an image is decoded or resized.

Training, evaluation, batch scoring, the server and the checks of a dataset all end in :func:`_decode`, so they cannot
disagree about pixels, sizes, or what is broken. JPEGs are decoded by :mod:`vision_mlops.images.jpeg` where it gives the
pixels that Pillow gives, in two fifths of the time; all else by Pillow, without the file's metadata
(:mod:`vision_mlops.images.metadata`). How pixels become the network's square has a version, which a bundle keeps, so that
a network is asked as it was trained.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final, Literal, NamedTuple

import numpy as np
from PIL import Image, TiffImagePlugin, UnidentifiedImageError

from vision_mlops.core.errors import ImageError
from vision_mlops.images.formats import ImageFormat, find_format, unsupported
from vision_mlops.images.jpeg import decode_jpeg
from vision_mlops.images.metadata import without_metadata
from vision_mlops.images.orientation import ORIENTATION, FileBytes, first_directory, is_quarter_turn, upright
from vision_mlops.images.pillow_warnings import QUIET, silence_libtiff
from vision_mlops.images.resizing import Pixels, ResizeMode, resize, resize_by_pillow

PixelsVersion = Literal[0, 1, 2, 3]
PIXELS_VERSION: Final = 3
"""How networks are trained now. 0: an image is decoded whole and scaled by Pillow. 1: a JPEG is decoded at 1/2, 1/4 or 1/8
of its size where both edges remain twice as long as the result's or longer. 2: the rest is scaled by :mod:`.resizing`.
3: one and a half times as long is enough."""
IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".avif", ".jp2"})
MAX_PIXELS = 50_000_000
"""Largest accepted width x height. A header that claims more is refused before any pixel is decoded."""

_NEW_SUBFILE_TYPE, _DNG_VERSION = 254, 50706
_NO_DATA = 1e30
"""Floats of this size say that nothing was measured at a place."""
_HINT = "replace or remove the file"


def open_rgb(source: bytes | Path, *, name: str = "", max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Decode one image completely and upright.

    Args:
        source: Encoded bytes, or the path of a file.
        name: Name of the image in errors; by default its path.
        max_pixels: Upper bound of width x height, checked on the header.

    Returns:
        An RGB image, EXIF orientation applied; transparency is put on white and 16-bit greyscale scaled to 8.

    Raises:
        ImageError: with reason ``empty``, ``unreadable``, ``too_large``, ``truncated``, ``not_an_image``,
            ``unsupported_format`` or ``corrupt``.
    """
    data, label = _read(source, name)
    return _decode(data, label, max_pixels, None).image()


def _read(source: bytes | Path, name: str) -> tuple[bytes, str]:
    """Return the bytes, and what an error calls them."""
    label = name or (str(source) if isinstance(source, Path) else "image")
    try:
        return source.read_bytes() if isinstance(source, Path) else source, label
    except OSError as error:
        raise ImageError(f"{label}: cannot be read ({error.strerror or error})", _HINT, "unreadable") from error


def open_reduced(
    data: bytes, edge: int, *, name: str = "image", max_pixels: int = MAX_PIXELS
) -> tuple[Image.Image, tuple[int, int]]:
    """Decode like :func:`open_rgb`; a JPEG may be decoded at 1/2, 1/4 or 1/8 scale, no edge shorter than ``edge``.

    The decoder still reads the whole file, so that a truncated one is found. For looking at many images, not for
    what the network is trained on or asked about.

    Returns:
        The RGB image, upright, and the (width, height) of the original, upright as well.

    Raises:
        ImageError: as :func:`open_rgb`.
    """
    decoded = _decode(data, name, max_pixels, edge)
    return decoded.image(), decoded.size


class _Decoded(NamedTuple):
    """RGB pixels (h, w, 3) or an RGB image, both as stored, and the stored (width, height) of the whole image."""

    picture: Pixels | Image.Image
    orientation: int
    stored: tuple[int, int]

    @property
    def size(self) -> tuple[int, int]:
        """Width and height as displayed."""
        width, height = self.stored
        return (height, width) if is_quarter_turn(self.orientation) else (width, height)

    def image(self) -> Image.Image:
        """Return the upright image."""
        image = self.picture if isinstance(self.picture, Image.Image) else Image.fromarray(self.picture)
        return upright(image, self.orientation)

    def scaled(self, size: int, mode: ResizeMode) -> Pixels:
        """Return the upright square. Few pixels are turned faster than many, and the filter is the same from all sides."""
        pixels = resize(np.asarray(self.picture), size, mode)
        if self.orientation == 1:
            return pixels
        return np.asarray(upright(Image.fromarray(pixels), self.orientation))


def _decode(data: bytes, label: str, max_pixels: int, edge: int | None) -> _Decoded:
    """Decode; with an ``edge``, at reduced scale if the format allows it."""
    if not data:
        raise ImageError(f"{label}: the file is empty (0 bytes)", _HINT, "empty")
    if (fast := decode_jpeg(data, edge, max_pixels)) is not None:
        return _Decoded(*fast)
    with _decoding(label):
        found = find_format(data, label)
        bare, orientation = without_metadata(data)
        with _open(bare, found, label, data) as image:
            width, height = image.size
            if width * height > max_pixels:
                raise ImageError(
                    f"{label}: {width} x {height} pixels is more than the limit of {max_pixels:,}",
                    "scale the image down",
                    "too_large",
                )
            turn = orientation or _own_orientation(image)
            if edge is not None:
                image.draft(None, (edge, edge))
            image.load()
            return _Decoded(_to_rgb(image), turn, (width, height))


def _open(bare: bytes, found: ImageFormat, label: str, data: FileBytes) -> Image.Image:
    """Return Pillow's image of the file ``data`` without its metadata, not decoded yet."""
    if found.pillow == "TIFF":
        silence_libtiff()
        if _begins_with_preview(data):
            raise unsupported(label, "camera raw images cannot be read")
    try:
        return Image.open(io.BytesIO(bare), formats=(found.pillow,))
    except UnidentifiedImageError:
        if found.pillow == "TIFF" and (problem := _unknown_tiff(bare, data)):
            raise unsupported(label, f"a TIFF file of a kind that cannot be read ({problem})") from None
        raise


def _begins_with_preview(data: FileBytes) -> bool:
    """Return whether a TIFF is a camera raw file (DNG, NEF or the like), of which Pillow would read the small preview."""
    directory = first_directory(data)
    for tag in directory.tags if directory else ():
        if tag.number == _DNG_VERSION:
            return True
        if directory and tag.number == _NEW_SUBFILE_TYPE:
            value = data[tag.start : tag.start + tag.size]
            return bool(int.from_bytes(value, "little" if directory.order == "<" else "big") & 1)
    return False


def _unknown_tiff(bare: bytes, data: FileBytes) -> str:
    """Return which kind of TIFF it is, if Pillow does not know it; empty if the file is broken."""
    directory = first_directory(data)
    if directory is None or not directory.is_whole(data):
        return ""
    try:
        TiffImagePlugin.TiffImageFile(io.BytesIO(bare)).close()
    except SyntaxError as error:
        return str(error) if str(error) in ("unknown pixel mode", "unknown data organization") else ""
    except Exception:  # broken, in one of a dozen ways
        return ""
    return ""


def _own_orientation(image: Image.Image) -> int:
    """Return the orientation for formats in which only Pillow can find it."""
    try:
        value = image.getexif().get(ORIENTATION)
    except Exception:
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


class _OpenFile:
    """A file of which only those parts are read that are asked for."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._size = os.fstat(stream.fileno()).st_size

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, part: slice, /) -> bytes:
        start, stop, _ = part.indices(self._size)
        self._stream.seek(start)
        return self._stream.read(max(0, stop - start))


def read_size(source: bytes | Path) -> tuple[int, int]:
    """Return width and height in pixels, as displayed, from the header alone: what follows it may still be broken.

    Raises:
        ImageError: with reason ``empty``, ``unreadable``, ``too_large``, ``not_an_image``, ``unsupported_format`` or
            ``corrupt``.
    """
    return _header(source)[1]


def read_suffix(path: Path) -> str:
    """Return the usual suffix of an image by its content, such as ``.jpg``, whatever its file name is.

    Raises:
        ImageError: as :func:`read_size`.
    """
    return _header(path)[0].suffix


def _header(source: bytes | Path) -> tuple[ImageFormat, tuple[int, int]]:
    label = str(source) if isinstance(source, Path) else "image"
    try:
        with io.BytesIO() if isinstance(source, bytes) else source.open("rb") as stream:
            data = source if isinstance(source, bytes) else _OpenFile(stream)
            if not len(data):
                raise ImageError(f"{label}: the file is empty (0 bytes)", _HINT, "empty")
            found = find_format(data[:512], label)
            bare, orientation = without_metadata(data, header=True)
            with _decoding(label), _open(bare, found, label, data) as image:
                width, height = image.size
                turned = is_quarter_turn(orientation or _own_orientation(image))
                return found, (height, width) if turned else (width, height)
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
        values = np.asarray(image, dtype=np.float32)
        values = np.where(np.abs(values) < _NO_DATA, values, np.float32(0))  # not a number either
        white = _white(image.mode, float(values.max(initial=0)))
        image = Image.fromarray(np.rint(np.clip(values, 0, white) * (255.0 / white)).astype(np.uint8))
    if image.mode == "LAB":
        from PIL import ImageCms

        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        image = ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB") or image
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        image = Image.new("RGB", rgba.size, (255, 255, 255))
        image.paste(rgba, mask=rgba.getchannel("A"))
    return image if image.mode == "RGB" else image.convert("RGB")


def _white(mode: str, brightest: float) -> float:
    """Return the value of white. I;16 is 16-bit greyscale: 65535, however dark the image. I and F do not say it.

    Those are taken to fill 8 or 16 bits, or 0 to 1, and else to end with their brightest pixel. A float may lie beyond
    white: resampling overshoots.
    """
    if mode not in ("I", "F"):
        return 65535.0
    scales, room = ((1.0, 255.0, 65535.0), 2.0) if mode == "F" else ((255.0, 65535.0), 1.0)
    return next((white for white in scales if brightest <= room * white), brightest)


def load_pixels(
    source: bytes | Path,
    size: int,
    mode: ResizeMode = "squash",
    *,
    version: PixelsVersion = PIXELS_VERSION,
    name: str = "",
    max_pixels: int = MAX_PIXELS,
) -> Pixels:
    """Decode and resize an image.

    Args:
        source: Encoded bytes, or the path of a file.
        size: Edge of the result in pixels.
        mode: The same as of :func:`.resizing.resize`.
        version: Version of the way from image to square. A model must be used as it was trained: its bundle says how.
        name: Name of the image in errors; by default its path.
        max_pixels: Upper bound of width x height, checked on the header.

    Returns:
        (size, size, 3) uint8, which may be read-only.

    Raises:
        ImageError: as :func:`open_rgb`.
    """
    data, label = _read(source, name)
    edge = {0: None, 1: 2 * size, 2: 2 * size, 3: -(-3 * size // 2)}[version]
    decoded = _decode(data, label, max_pixels, edge)
    if version >= 2:
        return decoded.scaled(size, mode)
    return resize_by_pillow(decoded.image(), size, mode)
