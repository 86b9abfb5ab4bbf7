"""Which way up an image is: the orientation in its Exif or XMP data, and the turn that makes it upright.

Read here and not by Pillow, so that data that is broken, or of a wrong type, says nothing instead of raising or warning.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from typing import NamedTuple, Protocol

from PIL import Image

ORIENTATION = 0x0112
"""Number of the tag."""
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_XMP_PACKET = 700
_XMP_ORIENTATION = re.compile(rb"tiff:Orientation\s*(?:=\s*[\"']|>)\s*([1-8])")
_INTEGERS = {3: "H", 4: "L", 8: "h", 9: "l"}  # types of a tag, as struct writes them
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_MOST_TAGS = 65535
_EXIF_HEAD = re.compile(rb"(Exif\0\0){1,2}")


class FileBytes(Protocol):
    """The bytes of a file, in memory or not."""

    def __len__(self) -> int: ...

    def __getitem__(self, part: slice, /) -> bytes: ...


class Tag(NamedTuple):
    """An entry of a TIFF directory: its ``raw`` bytes, and the ``start`` and ``size`` of its values in the file."""

    number: int
    type: int
    start: int
    size: int
    raw: bytes


class Directory(NamedTuple):
    """The first directory of TIFF data.

    ``order`` is the byte order as struct writes it; ``big`` tells a BigTIFF, ``number`` how many tags it should have.
    """

    order: str
    big: bool
    start: int
    number: int
    tags: list[Tag]

    def is_whole(self, data: FileBytes) -> bool:
        """Return whether all tags and their values are there."""
        return len(self.tags) == self.number and all(tag.start + tag.size <= len(data) for tag in self.tags)


def first_directory(data: FileBytes) -> Directory | None:
    """Return the first directory of TIFF data, such as Exif, as far as it is there; None if there is none."""
    head = data[:16]
    order = {b"II": "<", b"MM": ">"}.get(head[:2])
    if order is None or not (b"\x2a" in head[2:4] or b"\x2b" in head[2:4]):
        return None
    big = b"\x2b" in head[2:4]
    place, count, entry = (8, "Q", "HHQ8s") if big else (4, "H", "HHL4s")
    try:
        (start,) = struct.unpack_from(order + ("Q" if big else "L"), head, place)
        (number,) = struct.unpack(order + count, data[start : start + struct.calcsize(count)])
    except struct.error:
        return None
    if start < place:
        return None
    first, size = start + struct.calcsize(count), struct.calcsize("<" + entry)
    block = data[first : first + min(number, _MOST_TAGS) * size]
    tags = [_tag(order, entry, block[at : at + size], first + at) for at in range(0, len(block) // size * size, size)]
    return Directory(order, big, start, number, tags)


def _tag(order: str, entry: str, raw: bytes, place: int) -> Tag:
    number, kind, count, value = struct.unpack(order + entry, raw)
    size = _SIZES.get(kind, 1) * count
    inline = len(value)
    if size <= inline:
        return Tag(number, kind, place + len(raw) - inline, size, raw)
    return Tag(number, kind, int(struct.unpack(order + ("Q" if inline == 8 else "L"), value)[0]), size, raw)


def directory_orientation(data: FileBytes, directory: Directory) -> int | None:
    """Return the orientation that TIFF data gives, 1 to 8; 1 if it makes no sense, None if there is none."""
    found = [tag for tag in directory.tags if tag.number == ORIENTATION]
    for tag in found:
        if (code := _INTEGERS.get(tag.type)) and tag.size:
            raw = data[tag.start : tag.start + struct.calcsize("<" + code)]
            if len(raw) == struct.calcsize("<" + code):
                value = int(struct.unpack(directory.order + code, raw)[0])
                return value if 1 <= value <= 8 else 1
    packets = [data[tag.start : tag.start + tag.size] for tag in directory.tags if tag.number == _XMP_PACKET]
    return 1 if found else next(_in_packets(packets), None)


def orientation_of(exif: bytes, xmp: bytes = b"") -> int:
    """Return the orientation of an image, 1 to 8: by its Exif data, else by its XMP packet; 1 if neither gives one.

    Args:
        exif: TIFF data, with or without the head ``Exif``; may be empty or broken.
        xmp: The packet; may be empty.
    """
    if head := _EXIF_HEAD.match(exif):
        exif = exif[head.end() :]
    directory = first_directory(exif)
    found = None if directory is None else directory_orientation(exif, directory)
    return found or next(_in_packets([xmp]), 1)


def _in_packets(packets: list[bytes]) -> Iterator[int]:
    for packet in packets:
        if match := _XMP_ORIENTATION.search(packet):
            yield int(match[1])


def is_quarter_turn(orientation: int) -> bool:
    """Return whether an orientation swaps width and height."""
    return orientation >= 5


def upright(image: Image.Image, orientation: int) -> Image.Image:
    """Turn and mirror an image as the orientation, 1 to 8, asks for."""
    return image if orientation == 1 else image.transpose(_TURNS[orientation])
