"""Whether bytes are an image that Custom Vision takes."""

from __future__ import annotations

import io
import warnings

from PIL import Image

_FORMATS = ("JPEG", "PNG", "BMP", "GIF")


class ImageProblemError(Exception):
    """The bytes are refused.

    Args:
        status: What is said about one image of a batch, such as ``ErrorImageFormat``.
        message: Text for people.
    """

    def __init__(self, status: str, message: str) -> None:
        super().__init__(message)
        self.status = status


def image_size(content: bytes, most: int) -> tuple[int, int]:
    """Width and height of an image in pixels.

    Args:
        content: Its bytes.
        most: How many there may be.

    Raises:
        ImageProblemError: it is too large, or none of the formats.
    """
    if len(content) > most:
        raise ImageProblemError("ErrorImageSize", f"The image has {len(content)} bytes, and at most {most} are taken.")
    with opened(content) as image:
        return image.size


def opened(content: bytes) -> Image.Image:
    """The image, with all of its pixels read. Raises ImageProblemError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(content), formats=_FORMATS)
            image.load()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise ImageProblemError("ErrorImageFormat", f"The image cannot be read as {', '.join(_FORMATS)}.") from error
    return image
