"""JPEG to pixels by libjpeg-turbo without Pillow's way around: the same pixels, or None where Pillow has to decide.

Both use the same library, so that the pixels are equal at every scale; simplejpeg just does not go through an image object
and a packing of each row. Whatever is unusual or broken is left to Pillow, whose word counts.
"""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image

from vision_mlops.images.pillow_warnings import QUIET

Pixels = npt.NDArray[np.uint8]

_MAGIC = b"\xff\xd8\xff"
_COLOURS = frozenset({"RGB", "YCbCr", "Gray"})
_ORIENTATION = 0x0112
_START_OF_SCAN = 0xDA
_APP1 = 0xE1


def decode_jpeg(data: bytes, edge: int | None, max_pixels: int) -> Pixels | None:
    """Decode a JPEG completely and upright.

    Args:
        data: The file.
        edge: With one, it may be decoded at 1/2, 1/4 or 1/8 of its size, no edge shorter than this.
        max_pixels: A file that claims more is left to Pillow's refusal.

    Returns:
        (h, w, 3) uint8, or None: not a JPEG, or one that Pillow should look at.
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
        pixels: Pixels = simplejpeg.decode_jpeg(data, "RGB", min_height=lowest[0], min_width=lowest[1])
        turn = _orientation(data) if _has_app1(data) else 1
    except Exception:  # whatever is wrong with the file, Pillow finds the words for it
        return None
    if pixels.shape != (*wanted, 3):
        return None
    return pixels if turn == 1 else _upright(pixels, turn)


def reduction(width: int, height: int, edge: int | None) -> int:
    """By how much a JPEG is scaled down while it is decoded: 1, 2, 4 or 8; as Pillow's ``draft`` chooses it."""
    room = min(width, height) // edge if edge else 1
    return 8 if room >= 8 else 4 if room >= 4 else 2 if room >= 2 else 1


def _has_app1(data: bytes) -> bool:
    """Whether there is a segment in which an orientation may stand, before the image data."""
    position = 2
    while position + 4 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker == _APP1:
            return True
        if marker == _START_OF_SCAN:
            return False
        position += 1 if marker == 0xFF else 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    return False


def _orientation(data: bytes) -> int:
    with QUIET, Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
        return int(image.getexif().get(_ORIENTATION, 1))


def _upright(pixels: Pixels, orientation: int) -> Pixels:
    """Undo a turn; values that mean nothing leave the image as it is."""
    turns = {
        2: lambda array: array[:, ::-1],
        3: lambda array: array[::-1, ::-1],
        4: lambda array: array[::-1],
        5: lambda array: array.transpose(1, 0, 2),
        6: lambda array: array[::-1].transpose(1, 0, 2),
        7: lambda array: array[::-1, ::-1].transpose(1, 0, 2),
        8: lambda array: array[:, ::-1].transpose(1, 0, 2),
    }
    turn = turns.get(orientation)
    return pixels if turn is None else np.ascontiguousarray(turn(pixels))
