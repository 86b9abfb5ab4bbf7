"""Every way of reading an image gives one answer: its pixels, its size, and whether it is broken."""

from __future__ import annotations

import io
import struct
import sys
import types
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from testing.support.image_files import (
    HEIGHT,
    LOSSY,
    ODD,
    ODD_EXIF,
    WIDTH,
    avif_with_odd_exif,
    broken_metadata,
    encoded,
    exif,
    jpeg_with,
    orientation_tag,
    png_chunk,
    png_with,
    scene,
    tiff_with,
    turned,
    whole_files,
    with_exif,
    with_xmp,
)

from vision_mlops.core.errors import ImageError
from vision_mlops.images import formats
from vision_mlops.images.decoding import load_pixels, open_reduced, open_rgb, read_size, read_suffix

Answer = tuple[str, tuple[int, int]]
WHOLE = whole_files()
BROKEN = broken_metadata()
HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(40)


def answers(data: bytes, path: Path | None = None) -> set[Answer]:
    """What each reader says: the reason of a refusal, or ``fine`` and the size as displayed."""

    def of_header(source: bytes | Path) -> tuple[int, int]:
        # A header says less than the whole file: it must agree where that can be read.
        size = read_size(source)
        return size if fine else (0, 0)

    fine = _answer(lambda: open_rgb(data).size)[0] == "fine"
    found = {
        _answer(lambda: open_rgb(data).size),
        _answer(lambda: open_reduced(data, 8)[1]),
        _answer(lambda: open_reduced(data, 10_000)[0].size),
    }
    found |= {(reason, next(iter(found))[1]) for reason in (
        _answer(lambda: load_pixels(data, 8) is None or (0, 0))[0],
        _answer(lambda: load_pixels(data, 8, version=0) is None or (0, 0))[0],
    )}  # fmt: skip
    if fine:
        found |= {_answer(lambda: of_header(data))}
        if path is not None:
            path.write_bytes(data)
            found |= {_answer(lambda: of_header(path))}
    return found


def _answer(read: object) -> Answer:
    try:
        return "fine", read()  # type: ignore[operator]
    except ImageError as error:
        return error.reason, (0, 0)


def check_is_scene(data: bytes, path: Path, tolerance: int = LOSSY) -> None:
    """All readers find the upright picture; in grey, it is the grey one."""
    assert answers(data, path) == {("fine", (WIDTH, HEIGHT))}
    found = np.asarray(open_rgb(data)).astype(int)
    assert (found == np.asarray(open_reduced(data, 10_000)[0])).all()
    wanted = [np.asarray(picture.convert("RGB")).astype(int) for picture in (scene(), scene().convert("L"))]
    assert min(np.abs(found - pixels).max() for pixels in wanted) <= tolerance


@pytest.mark.parametrize("name", WHOLE)
def test_every_kind_of_file(name: str, tmp_path: Path) -> None:
    check_is_scene(WHOLE[name][0], tmp_path / "a", WHOLE[name][1])


@pytest.mark.parametrize("name", BROKEN)
def test_broken_metadata_is_no_fault_of_the_pixels(name: str, tmp_path: Path) -> None:
    check_is_scene(BROKEN[name], tmp_path / "a")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("name", ODD_EXIF)
def test_odd_exif_data(name: str, kind: str, tmp_path: Path) -> None:
    data, orientation = ODD_EXIF[name]
    check_is_scene(with_exif(kind, turned(scene(), orientation), data), tmp_path / "a")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_in_every_place(orientation: int, tmp_path: Path) -> None:
    image, path = turned(scene(), orientation), tmp_path / "a"
    for kind in ("JPEG", "PNG", "WEBP", "TIFF"):
        check_is_scene(with_xmp(kind, image, orientation), path)
    for options in ({}, {"compression": "tiff_lzw"}, {"big_tiff": True}):
        check_is_scene(encoded(image, "TIFF", tiffinfo={0x0112: orientation}, **options), path)
    check_is_scene(tiff_with(encoded(image, "TIFF", tiffinfo={0x0112: orientation}), ODD), path)
    check_is_scene(avif_with_odd_exif(orientation), path)
    png = encoded(image, "PNG")
    data = exif(orientation_tag(orientation))
    digits = b"\nexif\n%8d\n" % len(data) + data.hex().encode()
    check_is_scene(png_with(png, png_chunk(b"eXIf", data), before=b"IEND"), path)
    check_is_scene(png_with(png, png_chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(digits))), path)
    packed = zlib.compress(b'<x tiff:Orientation="%d"/>' % orientation)
    check_is_scene(png_with(png, png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + packed)), path)


def test_exif_over_two_segments_and_before_xmp(tmp_path: Path) -> None:
    plain = encoded(turned(scene(), 6), "JPEG", quality=95, subsampling=0)
    data = exif((0x010F, 2, 4, b"abc\0"), orientation_tag(6))
    parts = [(0xE1, b"Exif\0\0" + data[:25]), (0xE1, b"Exif\0\0" + data[25:])]
    check_is_scene(
        jpeg_with(plain, (0xE1, b'http://ns.adobe.com/xap/1.0/\0tiff:Orientation="3"'), *parts), tmp_path / "a"
    )


@settings(deadline=None, max_examples=120)
@given(st.sampled_from(sorted(WHOLE)), st.integers(0, 10**6), st.integers(0, 255), st.booleans())
def test_a_damaged_file_is_the_same_to_all(name: str, place: int, value: int, cut: bool) -> None:
    data = bytearray(WHOLE[name][0])
    place %= len(data)
    data[place] = value
    assert len(answers(bytes(data[:place] if cut else data))) == 1


@settings(deadline=None, max_examples=120)
@given(
    st.sampled_from(["JPEG", "PNG", "WEBP"]), st.binary(max_size=80),
    st.sampled_from([b"", b"II*\0", b"MM\0*\0\0\0\x08", exif(orientation_tag(6), ODD)[:24]]),
)  # fmt: skip
def test_whatever_stands_in_exif_data_the_pixels_are_there(kind: str, data: bytes, head: bytes) -> None:
    ((reason, size),) = answers(with_exif(kind, scene(), head + data))
    assert reason == "fine"
    assert sorted(size) == [HEIGHT, WIDTH]


@pytest.mark.parametrize("name", ["jpeg 4:4:4", "jpeg progressive", "jpeg cmyk", "png", "webp lossless", "tiff", "tiff lzw",
                                  "avif", "jpeg 2000"])  # fmt: skip
@pytest.mark.parametrize("kept", [0.5, 0.7])
def test_a_file_that_lacks_pixels_is_refused_by_all(name: str, kept: float) -> None:
    data = WHOLE[name][0]
    ((reason, _),) = answers(data[: int(len(data) * kept)])
    assert reason in ("truncated", "corrupt", "not_an_image")


def test_a_jpeg_without_its_end_is_whole_and_without_its_last_rows_is_not(tmp_path: Path) -> None:
    for subsampling in (0, 2):
        noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
        data = encoded(noise, "JPEG", subsampling=subsampling)
        assert answers(data[:-2], tmp_path / "a") == {("fine", (64, 64))}
        assert open_rgb(data[:-2]).tobytes() == open_rgb(data).tobytes()
        for missing in (4, 6, 20, 200):
            assert answers(data[:-missing]) == {("truncated", (0, 0))}
    progressive = encoded(noise, "JPEG", progressive=True)
    last_scan = progressive.rindex(b"\xff\xda")
    table = progressive.rindex(b"\xff\xc4", 0, last_scan)
    for end in (last_scan, table, len(progressive) - 2):
        assert answers(progressive[:end]) == {("truncated", (0, 0))}


def test_nothing_is_written_to_the_terminal(
    capfd: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder
) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    files = [
        encoded(noise, "TIFF", compression=name) for name in ("tiff_lzw", "tiff_adobe_deflate", "jpeg", "packbits")
    ]
    for data in files:
        broken = bytearray(data)
        broken[100:200] = bytes(100)
        answers(bytes(broken))
    answers(tiff_with(encoded(scene(), "TIFF"), (277, 3, 1, b"\xff\xff")))  # as many samples
    answers(png_with(encoded(scene(), "PNG"), png_chunk(b"acTL", bytes(8))))
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")
    assert not recwarn.list


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (HEIC, "HEIC images cannot be read: convert it to JPEG or PNG, or install the package pillow-heif"),
        (b"\xff\x0a" + bytes(40), "JPEG XL images cannot be read: convert it to JPEG or PNG"),
        (b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(40), "JPEG XL images cannot be read: convert it to JPEG or PNG"),
        (b"8BPS\0\1" + bytes(40), "Photoshop images cannot be read: convert it to JPEG or PNG"),
        (bytes(128) + b"DICM" + bytes(40), "DICOM images cannot be read: convert it to JPEG or PNG"),
        (b"II*\0\x10\0\0\0CR\x02\0" + bytes(40), "camera raw images cannot be read: convert it to JPEG or PNG"),
        (b"\0\0\0\x18ftypcrx \0\0\0\1crx isom" + bytes(40), "camera raw images cannot be read"),
        (b"FUJIFILMCCD-RAW 0201" + bytes(40), "camera raw images cannot be read"),
        (encoded(scene(), "TIFF", tiffinfo={254: 1}), "camera raw images cannot be read"),
        (
            tiff_with(encoded(scene(), "TIFF", tiffinfo={}), (50706, 1, 4, b"\1\4\0\0")),
            "camera raw images cannot be read",
        ),
        (b"P6\n2 2\n255\n" + bytes(40), "PPM images cannot be read: convert it to JPEG or PNG"),
        (
            tiff_with(encoded(scene(), "TIFF", tiffinfo={}), (339, 3, 1, b"\3\0")),
            "a TIFF file of a kind that cannot be read (unknown pixel mode): convert it to JPEG or PNG",
        ),
    ],
    ids=["heic", "jxl", "jxl in a box", "psd", "dicom", "cr2", "cr3", "raf", "nef", "dng", "ppm", "tiff"],
)
def test_a_format_that_cannot_be_read_is_named_with_what_helps(data: bytes, what: str, tmp_path: Path) -> None:
    formats._is_readable.cache_clear()
    assert answers(data) == {("unsupported_format", (0, 0))}
    path = tmp_path / "a.jpg"
    path.write_bytes(data)
    for read in (open_rgb, read_size, read_suffix):
        with pytest.raises(ImageError) as caught:
            read(path)
        assert caught.value.message.startswith(f"{path}: {what}")
        assert caught.value.reason == "unsupported_format"


@pytest.mark.parametrize("codec", ["avif", "jpg_2000"])
def test_a_pillow_without_a_codec(codec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("PIL.features.check", lambda name: None if name == codec else True)
    formats._is_readable.cache_clear()
    data = WHOLE["avif" if codec == "avif" else "jpeg 2000"][0]
    with pytest.raises(ImageError, match=r"(AVIF|JPEG 2000) images cannot be read: convert it to JPEG or PNG"):
        open_rgb(data)
    monkeypatch.undo()
    formats._is_readable.cache_clear()
    assert open_rgb(data).size == (WIDTH, HEIGHT)


def test_heic_is_read_where_its_plugin_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for pillow-heif, which registers an opener just so."""
    plugin = types.ModuleType("pillow_heif")

    def register() -> None:
        Image.register_open("HEIF", lambda *_: Image.open(io.BytesIO(encoded(scene(), "PNG"))))

    plugin.register_heif_opener = register  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pillow_heif", plugin)
    formats._is_readable.cache_clear()
    try:
        assert answers(HEIC) == {("fine", (WIDTH, HEIGHT))}
    finally:
        formats._is_readable.cache_clear()
        Image.OPEN.pop("HEIF", None)


def test_only_the_head_of_a_file_is_read_for_its_size(tmp_path: Path) -> None:
    path = tmp_path / "large.png"
    with path.open("wb") as stream:  # a sparse file: a gigabyte of pixels that are never read
        png = encoded(scene(), "PNG")
        place = png.index(b"IDAT") - 4
        stream.write(png[:place] + struct.pack(">I", 2**30) + b"IDAT")
        stream.seek(2**30 + 4, io.SEEK_CUR)
        stream.write(png_chunk(b"eXIf", exif(orientation_tag(6))) + png_chunk(b"IEND", b""))
    assert read_size(path) == (HEIGHT, WIDTH)
    video = tmp_path / "video.mp4"
    with video.open("wb") as stream:
        stream.write(b"\0\0\0\x18ftypmp42")
        stream.truncate(2**40)
    with pytest.raises(ImageError, match="not an image in a known format"):
        read_size(video)


def test_suffix_by_content(tmp_path: Path) -> None:
    path = tmp_path / "a"
    for name, suffix in {"jpeg 4:4:4": ".jpg", "mpo": ".jpg", "png": ".png", "webp lossless": ".webp", "gif": ".gif",
                         "bmp": ".bmp", "tiff big": ".tif", "avif": ".avif", "jpeg 2000": ".jp2"}.items():  # fmt: skip
        path.write_bytes(WHOLE[name][0])
        assert read_suffix(path) == suffix
