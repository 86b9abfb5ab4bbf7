"""Uploaded images: their type by the first bytes, whether they are safe to decode, and scaling where needed."""

from __future__ import annotations

import base64
import io
import threading
from dataclasses import dataclass

from PIL import Image, ImageOps, UnidentifiedImageError

from vision_mlops.flask_app.app_errors import AppError

_TYPES = {
    "JPEG": ("image/jpeg", ".jpg"),
    "MPO": ("image/jpeg", ".jpg"),
    "PNG": ("image/png", ".png"),
    "WEBP": ("image/webp", ".webp"),
    "GIF": ("image/gif", ".gif"),
    "BMP": ("image/bmp", ".bmp"),
    "TIFF": ("image/tiff", ".tif"),
    "AVIF": ("image/avif", ".avif"),
    "JPEG2000": ("image/jp2", ".jp2"),
}
"""Media type and usual suffix by Pillow's name of a format, for those that a scoring server reads."""
FORMATS = tuple(name for name in _TYPES if name != "MPO")
"""Formats that are opened; Pillow ignores those that it lacks, and reads MPO as JPEG."""
_EDGES = (2048, 1536, 1024, 768, 512, 384, 256)
_PREVIEW_EDGE = 640
_ORIENTATION = 0x0112
_BOMB = 2 * (Image.MAX_IMAGE_PIXELS or 0)
"""Number of pixels above which Pillow does not open an image."""
_DECODING = threading.BoundedSemaphore(2)
"""Limits how many images are decoded in parallel: one of 50 million pixels takes some hundred megabytes."""


@dataclass(frozen=True, slots=True)
class Upload:
    """An image of a known type and size; ``suffix`` is the usual one of its files."""

    data: bytes
    media_type: str
    suffix: str
    width: int
    height: int


def read_upload(data: bytes, max_pixels: int) -> Upload:
    """Look at the head of an image; nothing of it is decoded.

    Raises:
        AppError: 400 empty, 413 too many pixels, 415 not an image, or one that cannot be read.
    """
    if not data:
        raise AppError(400, "empty", "The file is empty: choose an image.")
    with _opened(data) as image:
        width, height = image.size
        if width * height > max_pixels:
            raise AppError(
                413, "too_many_pixels",
                f"The image has {width} x {height} pixels; at most {max_pixels / 1e6:g} million are allowed. Scale it down.",
            )  # fmt: skip
        media_type, suffix = _TYPES.get(image.format or "", ("application/octet-stream", ".img"))
    return Upload(data, media_type, suffix, width, height)


def scaled_to(upload: Upload, limit: int) -> Upload:
    """Return the image, or a JPEG of it within the limit of bytes. Raises AppError if it cannot be decoded."""
    if len(upload.data) <= limit:
        return upload
    image = _small(upload.data, _EDGES[0])
    for edge in _EDGES:
        image.thumbnail((edge, edge), Image.Resampling.LANCZOS)
        data = _as_jpeg(image)
        if len(data) <= limit:
            return Upload(data, "image/jpeg", ".jpg", image.width, image.height)
    raise AppError(413, "image_too_large", "The image is too large for the scoring endpoint, even scaled down.")


def preview(upload: Upload) -> dict[str, str | int]:
    """Return a small version as the data URL of a JPEG, and its size, for a page without JavaScript.

    Raises:
        AppError: it cannot be decoded.
    """
    image = _small(upload.data, _PREVIEW_EDGE)
    url = "data:image/jpeg;base64," + base64.b64encode(_as_jpeg(image)).decode()
    return {"url": url, "width": image.width, "height": image.height}


def thumbnail(data: bytes, edge: int) -> bytes:
    """Return the centred square of an image as a small WebP. Raises AppError if it cannot be decoded."""
    stream = io.BytesIO()
    square = ImageOps.fit(_small(data, 4 * edge), (edge, edge), Image.Resampling.LANCZOS)
    square.save(stream, "WEBP", quality=35, method=6)
    return stream.getvalue()


def _opened(data: bytes) -> Image.Image:
    try:
        return Image.open(io.BytesIO(data), formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:  # a warning, where those are errors
        raise AppError(
            413, "too_many_pixels", f"The image has more than {_BOMB / 1e6:.0f} million pixels. Scale it down."
        ) from error
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as error:
        raise AppError(
            415,
            "not_an_image",
            "This file is not an image that can be read: choose a JPEG, PNG, WebP, GIF, BMP or TIFF file.",
        ) from error


def _small(data: bytes, edge: int) -> Image.Image:
    """Return an upright image in RGB with the longer side of at most ``edge`` pixels."""
    try:
        with _DECODING, _opened(data) as image:
            image.draft("RGB", (edge, edge))  # JPEGs are decoded at reduced scale
            orientation = _orientation(image)
            small = _in_eight_bits(image)
            small.thumbnail((edge, edge), Image.Resampling.LANCZOS)
            if small.mode == "RGBA":
                white = Image.new("RGB", small.size, "white")
                white.paste(small, mask=small.getchannel("A"))
                small = white
            small.info.clear()  # of what the file says, the orientation alone
            small.getexif()[_ORIENTATION] = orientation
            return ImageOps.exif_transpose(small)
    except AppError:
        raise
    except Exception as error:  # Pillow raises a dozen types on broken input
        raise AppError(422, "corrupt", "The image is damaged: it cannot be decoded.") from error


def _in_eight_bits(image: Image.Image) -> Image.Image:
    """Convert an image to RGB, or to RGBA if it has transparent parts."""
    if image.mode.startswith("I;16"):
        image = image.convert("I").point(lambda value: value / 257).convert("L")
    elif image.mode in ("I", "F"):  # only its author knows which value is white
        raise AppError(
            422,
            "too_deep",
            "The image has 32 bits per channel and cannot be scaled down here: save it with 8 bits per channel, or smaller.",
        )
    return image.convert("RGBA" if image.has_transparency_data else "RGB")


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # noqa: BLE001 - broken metadata does not make the image unusable
        return 1


def _as_jpeg(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=90)
    return stream.getvalue()
