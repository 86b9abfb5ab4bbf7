"""Checks whether bytes are an image that Custom Vision accepts."""

from __future__ import annotations

import io

from PIL import Image

_MOST_PIXELS = 80_000_000
_FORMATS = ("JPEG", "PNG", "BMP", "GIF")


class ImageProblemError(Exception):
    """The bytes are refused.

    Args:
        status: Status of one image of a batch, such as ``ErrorImageFormat``.
        message: Text for people.
    """

    def __init__(self, status: str, message: str) -> None:
        super().__init__(message)
        self.status = status


def image_size(content: bytes, most: int) -> tuple[int, int]:
    """Return width and height of an image in pixels.

    Args:
        content: Bytes of the image.
        most: Maximum number of bytes.

    Raises:
        ImageProblemError: it is too large, or has none of the formats.
    """
    if len(content) > most:
        raise ImageProblemError(
            "ErrorImageSize", f"The image has {len(content)} bytes, but at most {most} are accepted."
        )
    with opened(content) as image:
        return image.size


def opened(content: bytes, side: int | None = None) -> Image.Image:
    """Return the image, with all of its pixels read.

    Args:
        content: Bytes of the image.
        side: Minimum of pixels that each side keeps if the image is read at reduced size, which is quicker.

    Raises:
        ImageProblemError: it has none of the formats.
    """
    try:
        image = Image.open(io.BytesIO(content), formats=_FORMATS)
        if image.width * image.height > _MOST_PIXELS:
            raise ValueError(f"it has more than {_MOST_PIXELS} pixels")
        if side is not None:
            image.draft("RGB", (side, side))
        image.load()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ImageProblemError("ErrorImageFormat", f"The image cannot be read as {', '.join(_FORMATS)}.") from error
    return image
