"""JPEG to pixels by libjpeg-turbo without Pillow's way around: the same pixels, or None if Pillow has to decide.

Both use the same library, so that the pixels are equal at every scale; simplejpeg just does not go through an image object
and a packing of each row. Whatever is unusual or broken is left to Pillow, whose word counts.
"""

from __future__ import annotations

import simplejpeg

from vision_mlops.images.metadata import is_one_scan, jpeg_orientation
from vision_mlops.images.resizing import Pixels

_MAGIC = b"\xff\xd8\xff"
_END = b"\xff\xd9"
_COLOURS = frozenset({"RGB", "YCbCr", "Gray"})


def decode_jpeg(data: bytes, edge: int | None, max_pixels: int) -> tuple[Pixels, int, tuple[int, int]] | None:
    """Decode a JPEG completely.

    Args:
        data: The file.
        edge: If given, it may be decoded at 1/2, 1/4 or 1/8 of its size, with no edge shorter than this.
        max_pixels: A file that claims more is left to Pillow's refusal.

    Returns:
        (h, w, 3) uint8 as stored, the orientation that it should have, 1 to 8, and the stored (width, height) of the whole
        image; None: not a JPEG, or one that Pillow should look at.
    """
    if data[:3] != _MAGIC:
        return None
    try:
        height, width, colours, _subsampling = simplejpeg.decode_jpeg_header(data)
        if colours not in _COLOURS or width * height > max_pixels:
            return None
        scale = reduction(width, height, edge)
        wanted = -(-height // scale), -(-width // scale)
        lowest = wanted if scale > 1 else (0, 0)
        pixels: Pixels
        try:
            pixels = simplejpeg.decode_jpeg(data, "RGB", min_height=lowest[0], min_width=lowest[1])
        except ValueError:
            # Some cameras forget the mark of the end. With it, the decoder complains if anything else is missing; of
            # several scans it would not miss a whole one.
            if not is_one_scan(data):
                return None
            pixels = simplejpeg.decode_jpeg(data + _END, "RGB", min_height=lowest[0], min_width=lowest[1])
        orientation = jpeg_orientation(data)
    except Exception:  # whatever is wrong with the file, Pillow finds the words for it
        return None
    if pixels.shape != (*wanted, 3):
        return None
    return pixels, orientation, (width, height)


def reduction(width: int, height: int, edge: int | None) -> int:
    """Return by how much a JPEG is scaled down while it is decoded: 1, 2, 4 or 8, chosen as Pillow's ``draft`` does."""
    room = min(width, height) // edge if edge else 1
    return 8 if room >= 8 else 4 if room >= 4 else 2 if room >= 2 else 1
