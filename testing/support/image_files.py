"""Image files of every kind, whole and with broken metadata, made by hand where no library writes them."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image

WIDTH, HEIGHT = 48, 32
EXACT = 0
LOSSY = 24
"""Largest difference of a pixel of a good JPEG, WebP or AVIF from what was encoded."""


def scene(width: int = WIDTH, height: int = HEIGHT) -> Image.Image:
    """Red, green, blue and white quarters: each turn and mirror of it looks different, and greys differ."""
    image = Image.new("RGB", (width, height), (255, 255, 255))
    image.paste((255, 0, 0), (0, 0, width // 2, height // 2))
    image.paste((0, 255, 0), (width // 2, 0, width, height // 2))
    image.paste((0, 0, 255), (0, height // 2, width // 2, height))
    return image


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    """The image as a file."""
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def turned(image: Image.Image, orientation: int) -> Image.Image:
    """The image as a camera stores it that is held so that the orientation results."""
    turns = {2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
             5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
             8: Image.Transpose.ROTATE_270}  # fmt: skip
    return image.transpose(turns[orientation]) if orientation in turns else image


def exif(*tags: tuple[int, int, int, bytes], order: str = "<", offset: int = 8) -> bytes:
    """Exif data of one directory: (number, type, count, four bytes of value or place) each."""
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "L", offset)
    body = b"".join(struct.pack(order + "HHL", *tag[:3]) + tag[3].ljust(4, b"\0") for tag in tags)
    return head + struct.pack(order + "H", len(tags)) + body + bytes(4)


def orientation_tag(value: int, order: str = "<") -> tuple[int, int, int, bytes]:
    """The tag as cameras write it."""
    return 0x0112, 3, 1, struct.pack(order + "H", value)


ODD = (0x011A, 2, 4, b"abc\0")  # a resolution as text
ODD_EXIF: dict[str, tuple[bytes, int]] = {
    "plain": (exif(orientation_tag(6)), 6),
    "big endian": (exif(orientation_tag(6, ">"), order=">"), 6),
    "resolution is text": (exif(orientation_tag(6), ODD), 6),
    "resolution divides by nothing": (exif(orientation_tag(8), (0x011A, 5, 1, b"\x08")), 8),
    "value beyond the end": (exif(orientation_tag(6), (0x010E, 2, 5000, b"\xff\xff\0\0")), 6),
    "unknown type": (exif(orientation_tag(6), (0x010F, 77, 3, b"abc")), 6),
    "directory beyond the end": (exif(orientation_tag(6), offset=0xFFFF), 1),
    "directory in the head": (exif(orientation_tag(6), offset=0), 1),
    "cut": (exif(orientation_tag(6), ODD, ODD)[:-24], 6),
    "cut before the tag": (exif(orientation_tag(6))[:12], 1),
    "next directory is itself": (exif(orientation_tag(6))[:-4] + b"\x08\0\0\0", 6),
    "orientation 0": (exif(orientation_tag(0)), 1),
    "orientation 9": (exif(orientation_tag(9)), 1),
    "orientation 65535": (exif(orientation_tag(65535)), 1),
    "orientation is text": (exif((0x0112, 2, 2, b"6\0")), 1),
    "orientation is long": (exif((0x0112, 4, 1, b"\6\0\0\0")), 6),
    "orientation twice": (exif((0x0112, 3, 2, b"\6\0\1\0")), 6),
    "no TIFF": (b"\1\2\3\4\5\6", 1),
    "empty": (b"", 1),
}
"""Exif data with the orientation that it gives."""


def jpeg_with(data: bytes, *segments: tuple[int, bytes]) -> bytes:
    """A JPEG with more segments in front."""
    extra = b"".join(bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body for marker, body in segments)
    return data[:2] + extra + data[2:]


def png_chunk(name: bytes, body: bytes, *, wrong: int = 0) -> bytes:
    """A chunk of a PNG; ``wrong`` is added to its checksum."""
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", (zlib.crc32(name + body) + wrong) % 2**32)


def png_with(data: bytes, *chunks: bytes, before: bytes = b"IDAT") -> bytes:
    """A PNG with more chunks before the first one of a name."""
    place = data.index(before) - 4
    return data[:place] + b"".join(chunks) + data[place:]


def webp_with(data: bytes, *chunks: tuple[bytes, bytes], size: tuple[int, int]) -> bytes:
    """A WebP in its extended form, with more chunks at the end."""
    extra = b"".join(name + struct.pack("<I", len(body)) + body + bytes(len(body) % 2) for name, body in chunks)
    canvas = b"".join((edge - 1).to_bytes(3, "little") for edge in size)
    body = b"WEBP" + b"VP8X" + struct.pack("<I", 10) + b"\x2c\0\0\0" + canvas + data[12:] + extra
    return b"RIFF" + struct.pack("<I", len(body)) + body


def tiff_with(data: bytes, *tags: tuple[int, int, int, bytes]) -> bytes:
    """A little-endian TIFF whose directory, now at the end, has more tags."""
    (start,) = struct.unpack_from("<L", data, 4)
    (count,) = struct.unpack_from("<H", data, start)
    entries = [data[start + 2 + 12 * i : start + 14 + 12 * i] for i in range(count)]
    entries += [struct.pack("<HHL", *tag[:3]) + tag[3].ljust(4, b"\0") for tag in tags]
    entries.sort(key=lambda entry: struct.unpack_from("<H", entry)[0])
    whole = data + bytes(len(data) % 2)
    place = struct.pack("<L", len(whole))
    return whole[:4] + place + whole[8:] + struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4)


XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="%d"/></x:xmpmeta>'


def with_exif(kind: str, image: Image.Image, data: bytes) -> bytes:
    """The image as a lossless file, or a good JPEG, with Exif data, which may be broken."""
    if kind == "JPEG":
        return jpeg_with(encoded(image, kind, quality=95, subsampling=0), (0xE1, b"Exif\0\0" + data))
    if kind == "PNG":
        return png_with(encoded(image, kind), png_chunk(b"eXIf", data))
    return webp_with(encoded(image, "WEBP", lossless=True), (b"EXIF", data), size=image.size)


def avif_with_odd_exif(orientation: int) -> bytes:
    """An AVIF of :func:`scene` whose Exif data has a resolution that is text."""
    tags = exif((0x010E, 2, 4, b"abc\0"), orientation_tag(orientation))
    data = encoded(turned(scene(), orientation), "AVIF", quality=95, subsampling="4:4:4", exif=tags)
    assert data.count(b"\x0e\1\2\0") == 1
    return data.replace(b"\x0e\1\2\0", b"\x1a\1\2\0")  # the description becomes the resolution


def with_xmp(kind: str, image: Image.Image, orientation: int) -> bytes:
    """The same with an XMP packet alone."""
    packet = XMP % orientation
    if kind == "JPEG":
        plain = encoded(image, kind, quality=95, subsampling=0)
        return jpeg_with(plain, (0xE1, b"http://ns.adobe.com/xap/1.0/\0" + packet))
    if kind == "PNG":
        return png_with(encoded(image, kind), png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + packet))
    if kind == "TIFF":
        return encoded(image, kind, tiffinfo={700: packet})
    return webp_with(encoded(image, "WEBP", lossless=True), (b"XMP ", packet), size=image.size)


def broken_metadata() -> dict[str, bytes]:
    """Files with the whole picture of :func:`scene`, whatever is wrong around it."""
    image = scene()
    jpeg = encoded(image, "JPEG", quality=95, subsampling=0)
    png, webp, tiff = encoded(image, "PNG"), encoded(image, "WEBP", lossless=True), encoded(image, "TIFF")
    bomb, megabyte = zlib.compress(bytes(80 * 2**20), 1), zlib.compress(bytes(2**20))
    many = [png_chunk(b"zTXt", b"key%d\0\0" % i + megabyte) for i in range(70)]
    cut_exif = webp_with(webp, (b"EXIF", exif(orientation_tag(1))), size=image.size)
    return {
        "jpeg, short JFIF": jpeg_with(jpeg, (0xE0, b"JFIF\0")),
        "jpeg, short Adobe": jpeg_with(jpeg, (0xEE, b"Adobe")),
        "jpeg, profile without a number": jpeg_with(jpeg, (0xE2, b"ICC_PROFILE\0")),
        "jpeg, broken profile": jpeg_with(jpeg, (0xE2, b"ICC_PROFILE\0\1\1not a profile")),
        "jpeg, broken index of pictures": jpeg_with(jpeg, (0xE2, b"MPF\0II*\0\xff\xff\0\0")),
        "jpeg, index of nothing": jpeg_with(jpeg, (0xE2, b"MPF\0" + exif((0xB001, 2, 4, b"abc\0")))),
        "jpeg, broken Photoshop data": jpeg_with(jpeg, (0xED, b"Photoshop 3.0\x008BIM\x04\x04\xff")),
        "jpeg, empty segments": jpeg_with(jpeg, *((marker, b"") for marker in range(0xE0, 0xF0)), (0xFE, b"")),
        "jpeg, filled up": jpeg[:2] + b"\xff" * 9 + jpeg[2:],
        "jpeg, trailing garbage": jpeg + b"\0garbage\xff\xd8\xff\xe1" * 20,
        "jpeg, no mark of the end": jpeg[:-2],
        "png, wrong checksum of a text": png_with(png, png_chunk(b"tEXt", b"Title\0hello", wrong=1)),
        "png, wrong checksum of Exif": png_with(png, png_chunk(b"eXIf", exif(orientation_tag(6)), wrong=1)),
        "png, short chunks": png_with(
            png, *(png_chunk(name, b"\1") for name in (b"pHYs", b"gAMA", b"cHRM", b"sBIT", b"acTL", b"iCCP", b"iTXt"))
        ),
        "png, broken sRGB": png_with(png, png_chunk(b"sRGB", b"")),
        "png, colours of another kind": png_with(png, png_chunk(b"tRNS", b"\1")),
        "png, broken profile": png_with(png, png_chunk(b"iCCP", b"name\0\0not zlib")),
        "png, profile in an unknown compression": png_with(png, png_chunk(b"iCCP", b"name\0\7abc")),
        "png, text that is a bomb": png_with(png, png_chunk(b"zTXt", b"key\0\0" + bomb)),
        "png, international bomb": png_with(png, png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + bomb)),
        "png, bomb behind the pixels": png_with(png, png_chunk(b"iTXt", b"key\0\1\0\0\0" + bomb), before=b"IEND"),
        "png, many texts": png_with(png, *many),
        "png, huge text": png_with(png, png_chunk(b"tEXt", b"key\0" + b"a" * 70 * 2**20)),
        "png, broken raw profile": png_with(png, png_chunk(b"tEXt", b"Raw profile type exif\0\nexif\n4\nxyz")),
        "png, broken animation": png_with(png, png_chunk(b"acTL", bytes(8)), png_chunk(b"fcTL", b"\0")),
        "png, trailing garbage": png + b"garbage" * 50,
        "png, no mark of the end": png[:-12],
        "webp, cut in Exif": cut_exif[:-9],
        "webp, trailing garbage": webp + b"garbage" * 50,
        "webp, broken profile": webp_with(webp, (b"ICCP", b"no"), size=image.size),
        "tiff, resolution is text": tiff_with(
            encoded(image, "TIFF", tiffinfo={}), (282, 2, 4, b"abc\0"), (283, 2, 4, b"abc\0"), (296, 3, 1, b"\3\0")
        ),
        "tiff, Exif beyond the end": tiff_with(tiff, (34665, 4, 1, b"\xff\xff\xff\0")),
        "tiff, text beyond the end": tiff_with(tiff, (270, 2, 50000, b"\xff\xff\xff\0")),
        "tiff, profile beyond the end": tiff_with(tiff, (34675, 7, 50000, b"\xff\xff\xff\0")),
    }  # fmt: skip


def whole_files() -> dict[str, tuple[bytes, int]]:
    """Files with the picture of :func:`scene` in colour or grey, and how far a pixel may differ."""
    image, grey = scene(), np.asarray(scene().convert("L"))
    many: dict[str, tuple[bytes, int]] = {
        "jpeg 4:4:4": (encoded(image, "JPEG", quality=95, subsampling=0), LOSSY),
        "jpeg progressive": (encoded(image, "JPEG", quality=95, subsampling=0, progressive=True), LOSSY),
        "jpeg cmyk": (encoded(image.convert("CMYK"), "JPEG", quality=95, subsampling=0), LOSSY),
        "png": (encoded(image, "PNG"), EXACT),
        "png palette": (encoded(image.quantize(8), "PNG"), EXACT),
        "png rgba": (encoded(image.convert("RGBA"), "PNG"), EXACT),
        "webp lossless": (encoded(image, "WEBP", lossless=True), EXACT),
        "webp animated": (encoded(image, "WEBP", lossless=True, save_all=True, append_images=[image.rotate(180)]), EXACT),
        "gif": (encoded(image, "GIF"), EXACT),
        "gif animated": (encoded(image, "GIF", save_all=True, append_images=[image.rotate(180)]), EXACT),
        "bmp": (encoded(image, "BMP"), EXACT),
        "tiff": (encoded(image, "TIFF"), EXACT),
        "tiff pages": (encoded(image, "TIFF", save_all=True, append_images=[image.resize((9, 9))]), EXACT),
        "tiff cmyk": (encoded(image.convert("CMYK"), "TIFF"), EXACT),
        "tiff lzw": (encoded(image, "TIFF", compression="tiff_lzw"), EXACT),
        "tiff big": (encoded(image, "TIFF", big_tiff=True), EXACT),
        "tiff lab": (_lab_tiff(), LOSSY),
        "mpo": (_mpo(), LOSSY),
        "avif": (encoded(image, "AVIF", quality=95, subsampling="4:4:4"), LOSSY),
        "jpeg 2000": (encoded(image, "JPEG2000"), EXACT),
    }  # fmt: skip
    pictures = {
        "grey": Image.fromarray(grey), "grey and alpha": Image.fromarray(grey).convert("LA"),
        "16 bit": Image.fromarray(grey.astype(np.uint16) * 257),
    }  # fmt: skip
    for mode, picture in pictures.items():
        many[f"png {mode}"] = encoded(picture, "PNG"), EXACT
    arrays: dict[str, np.ndarray[Any, np.dtype[Any]]] = {
        "16 bit": grey.astype(np.uint16) * 257, "32 bit": grey.astype(np.int32) * 257,
        "8 bit as float": grey.astype(np.float32),
        "float": grey.astype(np.float32) / 255, "float of 16 bit": grey.astype(np.float32) * 257,
    }  # fmt: skip
    for mode, values in arrays.items():
        many[f"tiff {mode}"] = encoded(Image.fromarray(values), "TIFF"), EXACT
    return many


def _mpo() -> bytes:
    preview = scene(12, 8)
    return encoded(scene(), "MPO", quality=95, subsampling=0, save_all=True, append_images=[preview])


def _lab_tiff() -> bytes:
    from PIL import ImageCms

    srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    image = ImageCms.profileToProfile(scene(), srgb, lab, outputMode="LAB")
    assert image is not None
    return encoded(image, "TIFF")
