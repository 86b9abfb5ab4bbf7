"""Images as Custom Vision accepts them: those of another format, or too large, are encoded again."""

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
        limit: Largest size of an image in bytes.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._shrunk: set[Path] = set()
        self._encoded: set[Path] = set()
        """Files that were reduced in size, and others that were encoded, so far."""

    def read(self, file: Path, *, anew: bool = False) -> bytes:
        """Return the bytes to send, which are those of the file if the service accepts it.

        Args:
            file: An image.
            anew: Encode it in any case, because the service cannot read the file itself.

        Raises:
            ImageError: the file cannot be decoded.
        """
        data = file.read_bytes()
        is_taken = find_format(data, str(file)).pillow in _TAKEN
        if is_taken and len(data) <= self.limit and not anew:
            return data
        (self._shrunk if len(data) > self.limit else self._encoded).add(file)
        return _jpeg(open_rgb(data, name=str(file)), self.limit)

    def told(self) -> str:
        """Return a sentence about changed images; empty if all were sent unchanged."""
        parts = []
        if self._shrunk:
            parts.append(f"{len(self._shrunk):,} above {self.limit / 1e6:g} MB reduced in size for the service")
        if self._encoded:
            parts.append(f"{len(self._encoded):,} encoded as JPEG")
        return f"images for Custom Vision: {', '.join(parts)}" if parts else ""


def _jpeg(image: Image.Image, limit: int) -> bytes:
    """Return a JPEG within a size in bytes, scaled down if necessary."""
    scale = 1.0
    while True:
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        shown = image if scale == 1.0 else image.resize(size, Image.Resampling.BOX)
        stream = io.BytesIO()
        shown.save(stream, "JPEG", quality=_QUALITY)
        if stream.tell() <= limit:
            return stream.getvalue()
        scale *= min(_SMALLER, (limit / stream.tell()) ** 0.5)
