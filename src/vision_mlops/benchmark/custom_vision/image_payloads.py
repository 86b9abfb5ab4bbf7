"""Images as Custom Vision takes them: what is of another format, or too large, is encoded anew."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image

from vision_mlops.images.decoding import open_rgb
from vision_mlops.images.formats import find_format

TRAINING_BYTES, PREDICTION_BYTES = 6_000_000, 4_000_000
_TAKEN = frozenset({"JPEG", "PNG", "BMP", "GIF"})
_QUALITY = 95
_SMALLER = 0.9


class ImagePayloads:
    """Reads files for requests.

    Args:
        limit: Most bytes of an image.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.scaled = self.converted = 0
        """How many images were scaled down, and how many of another format encoded anew, so far."""

    def read(self, file: Path, *, anew: bool = False) -> bytes:
        """The bytes to send. They are those of the file wherever the service takes it.

        Args:
            file: An image.
            anew: Encode it in any case, for what the service cannot read as it is.

        Raises:
            ImageError: the file cannot be decoded.
        """
        data = file.read_bytes()
        is_taken = find_format(data, str(file)).pillow in _TAKEN
        if is_taken and len(data) <= self.limit and not anew:
            return data
        content, smaller = _jpeg(open_rgb(data, name=str(file)), self.limit)
        self.scaled += smaller
        self.converted += not smaller
        return content

    def told(self) -> str:
        """What was done to images, in one sentence; empty where all were sent as they are."""
        parts = []
        if self.scaled:
            parts.append(f"{self.scaled:,} above {self.limit / 1e6:g} MB scaled down")
        if self.converted:
            parts.append(f"{self.converted:,} of other formats encoded as JPEG")
        return f"images for Custom Vision: {', '.join(parts)}" if parts else ""


def _jpeg(image: Image.Image, limit: int) -> tuple[bytes, bool]:
    """A JPEG of at most so many bytes, and whether it is smaller than the image."""
    scale = 1.0
    while True:
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        shown = image if scale == 1.0 else image.resize(size, Image.Resampling.BOX)
        stream = io.BytesIO()
        shown.save(stream, "JPEG", quality=_QUALITY)
        if stream.tell() <= limit:
            return stream.getvalue(), scale < 1.0
        scale *= min(_SMALLER, (limit / stream.tell()) ** 0.5)
