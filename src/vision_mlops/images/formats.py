"""Which format a file has, by its first bytes, and whether it can be read here."""

from __future__ import annotations

import functools
import importlib
from pathlib import PurePath
from typing import NamedTuple

from PIL import features

from vision_mlops.core.errors import ImageError
from vision_mlops.images.pillow_warnings import QUIET


class ImageFormat(NamedTuple):
    """A format. ``pillow`` is Pillow's name of it, empty if Pillow has none; ``suffix`` that of a file."""

    name: str
    pillow: str
    suffix: str


_JPEG = ImageFormat("JPEG", "JPEG", ".jpg")
_PNG = ImageFormat("PNG", "PNG", ".png")
_GIF = ImageFormat("GIF", "GIF", ".gif")
_BMP = ImageFormat("BMP", "BMP", ".bmp")
_TIFF = ImageFormat("TIFF", "TIFF", ".tif")
_WEBP = ImageFormat("WebP", "WEBP", ".webp")
_JPEG_2000 = ImageFormat("JPEG 2000", "JPEG2000", ".jp2")
_AVIF = ImageFormat("AVIF", "AVIF", ".avif")
_HEIC = ImageFormat("HEIC", "HEIF", ".heic")

_RAW = ImageFormat("camera raw", "", ".dng")

_MAGIC = (
    (8, b"CR\x02\0", _RAW),  # Canon's; a TIFF by its first bytes, and so before TIFF
    (0, b"\xff\xd8\xff", _JPEG),
    (0, b"\x89PNG\r\n\x1a\n", _PNG),
    (0, b"GIF87a", _GIF),
    (0, b"GIF89a", _GIF),
    (0, b"BM", _BMP),
    *((0, head, _TIFF) for head in (b"II\x2a\0", b"MM\0\x2a", b"II\x2b\0", b"MM\0\x2b", b"II\0\x2a", b"MM\x2a\0")),
    *((0, head, _RAW) for head in (b"FUJIFILMCCD-RAW", b"IIRO", b"IIRS", b"IIU\0")),
    (8, b"WEBP", _WEBP),
    (0, b"\0\0\0\x0cjP  \r\n\x87\n", _JPEG_2000),
    (0, b"\xff\x4f\xff\x51", _JPEG_2000),
    (0, b"\xff\x0a", ImageFormat("JPEG XL", "", ".jxl")),
    (0, b"\0\0\0\x0cJXL \r\n\x87\n", ImageFormat("JPEG XL", "", ".jxl")),
    (0, b"II\xbc\x01", ImageFormat("JPEG XR", "", ".jxr")),
    (0, b"8BPS", ImageFormat("Photoshop", "", ".psd")),
    (128, b"DICM", ImageFormat("DICOM", "", ".dcm")),
    (0, b"v/1\x01", ImageFormat("OpenEXR", "", ".exr")),
    (0, b"qoif", ImageFormat("QOI", "", ".qoi")),
    (0, b"P5\n", ImageFormat("PGM", "", ".pgm")),
    (0, b"P6\n", ImageFormat("PPM", "", ".ppm")),
)
_AVIF_BRANDS = frozenset({b"avif", b"avis"})
_HEIC_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"})
# Of formats that are not known by their first bytes.
_NEVER_READ = frozenset({
    "tga", "ico", "icns", "svg", "svgz", "eps", "ppm", "pgm", "pbm", "pnm", "pcx", "dds", "exr", "hdr", "cr3", "orf", "raf",
    "rw2",
})  # fmt: skip
_WHAT_HELPS = {
    "AVIF": ", or install pillow>=11.3",
    "HEIC": ", or install the package pillow-heif wherever such images are read",
}


def find_format(data: bytes, label: str) -> ImageFormat:
    """Return the format of a file that can be read here.

    Args:
        data: The file, or its beginning.
        label: Name of the file in errors; its suffix tells the format where the content does not.

    Raises:
        ImageError: with reason ``not_an_image``, or ``unsupported_format`` where it is an image that cannot be read here.
    """
    found = _by_content(data)
    if found is None:
        suffix = PurePath(label).suffix.lower().removeprefix(".")
        if suffix in _NEVER_READ:
            raise unsupported(label, f"{suffix.upper()} images cannot be read")
        raise ImageError(f"{label}: not an image in a known format", "replace or remove the file", "not_an_image")
    if not _is_readable(found.pillow):
        raise unsupported(label, f"{found.name} images cannot be read", _WHAT_HELPS.get(found.name, ""))
    return found


def unsupported(label: str, problem: str, alternative: str = "") -> ImageError:
    """Return the error for an image that cannot be read here. Its message names the fix, for those who see only that."""
    return ImageError(
        f"{label}: {problem}: convert it to JPEG or PNG{alternative}",
        "an image editor, or ImageMagick's `magick` command, converts images",
        "unsupported_format",
    )


def _by_content(data: bytes) -> ImageFormat | None:
    if data[4:8] == b"ftyp":
        length = min(int.from_bytes(data[:4], "big"), 512)
        brands = {data[place : place + 4] for place in (8, *range(16, length, 4))}
        if b"crx " in brands:
            return _RAW
        if brands & _AVIF_BRANDS:
            return _AVIF
        return _HEIC if brands & _HEIC_BRANDS else None
    for place, magic, found in _MAGIC:
        if data.startswith(magic, place):
            return found
    return None


@functools.cache
def _is_readable(pillow: str) -> bool:
    """Return whether Pillow has the decoder, for HEIC from a plugin that may be installed."""
    if pillow == "HEIF":
        try:
            importlib.import_module("pillow_heif").register_heif_opener()
        except ImportError:
            return False
        return True
    codecs = {"AVIF": "avif", "JPEG2000": "jpg_2000", "WEBP": "webp"}
    with QUIET:  # a Pillow that has never heard of a codec warns
        return bool(pillow) and (pillow not in codecs or bool(features.check(codecs[pillow])))
