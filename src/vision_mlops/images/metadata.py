"""Removes from image files what their pixels do not need: text, profiles, previews, Exif data.

What is broken there must not decide whether the pixels can be read, and Pillow reads all of it. What does belong to the
pixels stays as it is, broken or not: Pillow judges that.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Container, Iterator

from vision_mlops.images.orientation import FileBytes, directory_orientation, first_directory, orientation_of

PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
_MOST_TEXT = 2**20
"""Bytes of text that are decompressed in search of an orientation."""
_JFIF, _ADOBE, _APP1, _COMMENT, _START_OF_SCAN, _END = 0xE0, 0xEE, 0xE1, 0xFE, 0xDA, 0xD9
_PNG_TEXTS = (b"iTXt", b"zTXt", b"tEXt")
_PNG_TRANSPARENCY: dict[bytes, Container[int]] = {b"\0": (2,), b"\2": (6,), b"\3": range(1, 257)}
"""By colour type, how many bytes tRNS may have."""
_XMP, _RAW_PROFILE = b"XML:com.adobe.xmp", b"Raw profile type exif"
_WEBP_PIXELS = (b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ANIM", b"ANMF")
_WEBP_FLAGS = 0xFF & ~(0x20 | 0x08 | 0x04)  # without profile, Exif, XMP
_TIFF_PIXELS = frozenset({
    254, 255, 256, 257, 258, 259, 262, 266, 273, 277, 278, 279, 284, 292, 293, 317, 320, 322, 323, 324, 325, 332, 333, 334,
    336, 338, 339, 347, 512, 513, 514, 515, 517, 518, 519, 520, 521, 529, 530, 531, 532, 50674,
})  # fmt: skip
_EXIF_ITEM = re.compile(rb"(infe\x02.{3}.{4}|infe\x03.{3}.{6})Exif", re.DOTALL)


def without_metadata(data: FileBytes, *, header: bool = False) -> tuple[bytes, int | None]:
    """Return the part of an image file that its pixels need, and its orientation.

    Args:
        data: The file.
        header: Omit the pixels where that saves reading them; the result is enough for width and height.

    Returns:
        A file of the same format, and 1 to 8; None for the orientation where the format has no place of its own for it.
    """
    head = data[:12]
    if head[:3] == b"\xff\xd8\xff":
        return _jpeg(data, header)
    if head[:8] == PNG_MAGIC:
        return _png(data, header)
    if head[:4] == b"RIFF" and head[8:] == b"WEBP":
        return _webp(data[:])
    if head[:2] in (b"II", b"MM"):
        return _tiff(data, header)
    return (_without_exif_item(data[:]) if head[4:8] == b"ftyp" else data[:]), None


def jpeg_orientation(data: FileBytes) -> int:
    """Return the orientation of a JPEG, 1 to 8."""
    exif, xmp = b"", b""
    for marker, start, end in _segments(data):
        if marker == _APP1:
            exif, xmp = _from_app1(data[start + 4 : end], exif, xmp)
    return orientation_of(exif, xmp)


def is_one_scan(data: FileBytes) -> bool:
    """Return whether the first scan of a JPEG holds all of its pixels: it is not progressive and has all components."""
    components = -1
    for marker, start, end in _segments(data):
        segment = data[start:end]
        if marker in (0xC0, 0xC1) and len(segment) > 9:
            components = segment[9]
        if marker == _START_OF_SCAN and len(segment) > 4:
            return segment[4] == components
    return False


def _from_app1(body: bytes, exif: bytes, xmp: bytes) -> tuple[bytes, bytes]:
    if body.startswith(b"Exif\0\0"):
        return exif + (body[6:] if exif else body), xmp  # large data continues in the next segment
    if body.startswith(b"http://ns.adobe.com/xap/1.0/\0"):
        return exif, xmp + body
    return exif, xmp


def _segments(data: FileBytes) -> Iterator[tuple[int, int, int]]:
    """Yield marker, start and end of each segment of a JPEG; the head of the first scan is the last one."""
    position = 2
    while len(head := data[position : position + 4]) == 4:
        if head[0] != 0xFF:  # the length before it was wrong
            skipped = data[position : position + 4096].find(b"\xff")
            position += skipped if skipped > 0 else 4096
            continue
        marker = head[1]
        if marker in (0x00, 0xFF):
            position += 1
            continue
        if marker == 0x01 or 0xD0 <= marker < _END:  # these have no length
            position += 2
            continue
        if marker == _END:
            return
        end = position + 2 + max(2, int.from_bytes(head[2:], "big"))
        yield marker, position, end
        if marker == _START_OF_SCAN:
            return
        position = end


def _jpeg(data: FileBytes, header: bool) -> tuple[bytes, int]:
    kept, exif, xmp = [data[:2]], b"", b""
    for marker, start, end in _segments(data):
        if marker == _START_OF_SCAN and not header:
            kept.append(data[start:])
            break
        segment = data[start:end]
        if marker == _APP1:
            exif, xmp = _from_app1(segment[4:], exif, xmp)
        # These two say which colours a file has. The decoder ignores shorter ones, Pillow refuses them.
        elif marker == _JFIF:
            kept += [segment] if segment[4:8] == b"JFIF" and len(segment) >= 18 else []
        elif marker == _ADOBE:
            kept += [segment] if segment[4:9] == b"Adobe" and len(segment) >= 16 else []
        elif not (0xE0 <= marker <= 0xFD or marker == _COMMENT):
            kept.append(segment)
    return b"".join(kept), orientation_of(exif, xmp)


def _png(data: FileBytes, header: bool) -> tuple[bytes, int]:
    kept, position = [PNG_MAGIC], 8
    transparency = _PNG_TRANSPARENCY.get(data[25:26], ())
    exif = profile = xmp = b""
    pixels = False
    while len(head := data[position : position + 8]) == 8:
        length, name = int.from_bytes(head[:4], "big"), head[4:]
        end = position + 12 + length
        if name == b"tRNS" and length in transparency:
            kept += [data[position:end]] if _is_sound(data[position:end]) else []
        elif name == b"eXIf":
            exif = data[position + 8 : end - 4] if _is_sound(data[position:end]) else exif
        elif name in _PNG_TEXTS:
            keyword = data[position + 8 : position + 88].partition(b"\0")[0]
            if keyword in (_XMP, _RAW_PROFILE) and _is_sound(chunk := data[position:end]):
                text = _png_text(name, chunk[9 + len(keyword) : -4])
                xmp, profile = (text, profile) if keyword == _XMP else (xmp, _raw_profile(text))
        elif header and name == b"IDAT":
            kept += [] if pixels else [head]
            pixels = True
        elif not (name[0] & 0x20 or (header and pixels)):  # a capital letter: every decoder needs it
            kept.append(data[position:end])
        position = end
        if name == b"IEND":
            return b"".join(kept), orientation_of(exif or profile, xmp)
    return b"".join([*kept, head]), orientation_of(exif or profile, xmp)


def _is_sound(chunk: bytes) -> bool:
    """Return whether a chunk is complete and its checksum is right. Otherwise it is ignored, as other decoders do."""
    whole = len(chunk) == 12 + int.from_bytes(chunk[:4], "big")
    return whole and zlib.crc32(chunk[4:-4]) == int.from_bytes(chunk[-4:], "big")


def _png_text(name: bytes, rest: bytes) -> bytes:
    """Return the text of a chunk from what follows the keyword, as far as the search for an orientation needs it."""
    if name == b"tEXt":
        return rest
    packed = rest[:1] == b"\1" if name == b"iTXt" else True
    text = rest[2:].split(b"\0", 2)[-1] if name == b"iTXt" else rest[1:]
    try:
        return zlib.decompressobj().decompress(text, _MOST_TEXT) if packed else text
    except zlib.error:
        return b""


def _raw_profile(text: bytes) -> bytes:
    """Return Exif data that ImageMagick wrote as text: name, length and hexadecimal digits, one line each."""
    try:
        return bytes.fromhex(b"".join(text.split(b"\n")[3:]).decode("ascii"))
    except ValueError:
        return b""


def _webp(data: bytes) -> tuple[bytes, int]:
    end = min(len(data), 8 + int.from_bytes(data[4:8], "little"))
    kept, exif, xmp, extended, missing, position = [b"WEBP"], b"", b"", False, 0, 12
    while position + 8 <= end:
        name, size = data[position : position + 4], int.from_bytes(data[position + 4 : position + 8], "little")
        chunk = data[position : position + 8 + size + size % 2]
        if name == b"VP8X":
            extended = True
            chunk = chunk[:8] + bytes([chunk[8] & _WEBP_FLAGS]) + chunk[9:] if len(chunk) > 8 else chunk
        exif = chunk[8 : 8 + size] if name == b"EXIF" else exif
        xmp = chunk[8 : 8 + size] if name == b"XMP " else xmp
        if name in _WEBP_PIXELS:
            kept.append(chunk)
            missing = 8 + size + size % 2 - len(chunk)  # by which the decoder knows that the file was cut
        position += 8 + size + size % 2
    body = b"".join(kept)
    return b"RIFF" + struct.pack("<I", len(body) + missing) + body, orientation_of(exif, xmp) if extended else 1


def _tiff(data: FileBytes, header: bool) -> tuple[bytes, int | None]:
    directory = first_directory(data)
    if directory is None:
        return data[:], None
    tags = [tag for tag in directory.tags if tag.number in _TIFF_PIXELS]
    bare = bytearray(len(data)) if header else bytearray(data[:])
    if header:
        bare[:16] = data[:16]
        for tag in tags:
            bare[tag.start : tag.start + tag.size] = data[tag.start : tag.start + tag.size]
    count = struct.pack(directory.order + ("Q" if directory.big else "H"), len(tags))
    block = count + b"".join(tag.raw for tag in tags) + bytes(8 if directory.big else 4)  # and no second image
    bare[directory.start : directory.start + len(block)] = block
    return bytes(bare), directory_orientation(data, directory) or 1


def _without_exif_item(data: bytes) -> bytes:
    """Rename the Exif item of HEIC and AVIF, which are turned by properties of the image and not by it."""
    position = 0
    while position + 8 <= len(data):
        size, name = int.from_bytes(data[position : position + 4], "big"), data[position + 4 : position + 8]
        size = int.from_bytes(data[position + 8 : position + 16], "big") if size == 1 else size or len(data)
        if name == b"meta":
            end = position + size
            return data[:position] + _EXIF_ITEM.sub(rb"\1none", data[position:end]) + data[end:]
        position += max(size, 8)
    return data
