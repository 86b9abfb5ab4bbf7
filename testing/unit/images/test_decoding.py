"""Decoding and resizing: every kind of file comes out upright and in RGB, and broken ones end as ImageError."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vision_mlops.core.errors import ImageError
from vision_mlops.images.decoding import load_pixels, open_rgb

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)
REASONS = {"empty", "too_large", "truncated", "not_an_image", "unsupported_format", "corrupt", "fine"}


def encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def noise(width: int = 40, height: int = 30) -> Image.Image:
    generator = np.random.default_rng(0)
    return Image.fromarray(generator.integers(0, 256, (height, width, 3), dtype=np.uint8))


def corners(width: int = 24, height: int = 16) -> Image.Image:
    """Red, green, blue and white quarters: each turn and mirror of it looks different."""
    image = Image.new("RGB", (width, height), WHITE)
    image.paste(RED, (0, 0, width // 2, height // 2))
    image.paste(GREEN, (width // 2, 0, width, height // 2))
    image.paste(BLUE, (0, height // 2, width // 2, height))
    return image


def bare_png(width: int, height: int, body: bytes = zlib.compress(b"\0" * 64)) -> bytes:
    """A PNG of a few bytes, whatever size its header claims."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def pixels(image: Image.Image) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    assert image.mode == "RGB"
    return np.asarray(image)


def outcome(data: bytes) -> str:
    """Reason of the refusal, or ``fine``; any other exception fails the test."""
    try:
        found = load_pixels(data, 16)
    except ImageError as error:
        return error.reason
    return "fine" if found.shape == (16, 16, 3) else "wrong shape"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation_comes_out_upright(orientation: int, kind: str) -> None:
    upright = corners()
    turns = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = upright.transpose(turns[orientation]) if orientation in turns else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    options: dict[str, Any] = {"quality": 95, "subsampling": 0} if kind == "JPEG" else {}
    found = open_rgb(encode(stored, kind, exif=exif, **options))
    assert found.size == upright.size
    assert np.abs(pixels(found).astype(int) - pixels(upright)).max() <= (12 if kind == "JPEG" else 0)


@pytest.mark.parametrize("orientation", [0, 9, 255])
def test_unknown_orientation_is_ignored(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert open_rgb(encode(corners(), "PNG", exif=exif)).tobytes() == corners().tobytes()


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "GIF", "WEBP", "JPEG"])
def test_formats_agree(kind: str) -> None:
    options: dict[str, dict[str, Any]] = {"WEBP": {"lossless": True}, "JPEG": {"quality": 100, "subsampling": 0}}
    found = pixels(open_rgb(encode(corners(), kind, **options.get(kind, {}))))
    assert np.abs(found.astype(int) - pixels(corners())).max() <= (3 if kind == "JPEG" else 0)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_png_modes_come_out_as_rgb(mode: str) -> None:
    assert pixels(open_rgb(encode(Image.new(mode, (5, 4)), "PNG"))).shape == (4, 5, 3)


def test_grey_and_one_bit() -> None:
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    assert (pixels(open_rgb(encode(Image.fromarray(grey), "PNG"))) == grey[..., None]).all()
    bits = grey > 100
    expected = np.where(bits, 255, 0)[..., None]
    for kind in ("PNG", "BMP", "TIFF"):
        assert (pixels(open_rgb(encode(Image.fromarray(bits), kind))) == expected).all()


def test_transparency_is_put_on_white() -> None:
    image = Image.new("RGBA", (3, 1))
    image.putpixel((0, 0), (0, 0, 0, 0))
    image.putpixel((1, 0), (0, 0, 0, 255))
    image.putpixel((2, 0), (255, 0, 0, 128))
    for kind, options in (("PNG", {}), ("TIFF", {}), ("WEBP", {"lossless": True, "exact": True})):
        found = pixels(open_rgb(encode(image, kind, **options)))
        assert found.tolist() == [[[255, 255, 255], [0, 0, 0], [255, 127, 127]]]
    grey = Image.new("LA", (1, 1), (0, 0))
    assert pixels(open_rgb(encode(grey, "PNG"))).tolist() == [[list(WHITE)]]
    keyed = pixels(open_rgb(encode(corners(2, 2), "PNG", transparency=GREEN)))
    assert keyed.tolist() == [[list(RED), list(WHITE)], [list(BLUE), list(WHITE)]]


@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_palette_with_and_without_transparency(kind: str) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([*GREEN, *BLUE])
    image.putpixel((1, 0), 1)
    assert pixels(open_rgb(encode(image, kind))).tolist() == [[list(GREEN), list(BLUE)]]
    assert pixels(open_rgb(encode(image, kind, transparency=0))).tolist() == [[list(WHITE), list(BLUE)]]


def test_palette_with_graded_transparency() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([0, 0, 0, *BLUE])
    image.putpixel((1, 0), 1)
    found = pixels(open_rgb(encode(image, "PNG", transparency=bytes([128, 255]))))
    assert found.tolist() == [[[127, 127, 127], list(BLUE)]]


def test_cmyk_jpeg() -> None:
    found = pixels(open_rgb(encode(corners().convert("CMYK"), "JPEG", quality=95, subsampling=0)))
    assert np.abs(found.astype(int) - pixels(corners())).max() <= 12


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_grey_is_scaled(kind: str) -> None:
    grey = np.arange(256, dtype=np.uint16).reshape(16, 16)
    found = pixels(open_rgb(encode(Image.fromarray(grey * 257), kind)))
    assert (found == grey[..., None]).all()


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_dark_16_bit_grey_stays_dark(kind: str) -> None:
    """Two almost equal exposures look almost equal: the scale does not hang on the brightest pixel."""
    levels = [
        int(pixels(open_rgb(encode(Image.fromarray(np.full((2, 2), level, np.uint16)), kind))).max())
        for level in (0, 250, 260, 514)
    ]
    assert levels == [0, 1, 1, 2]


def test_32_bit_tiff() -> None:
    def shown(values: list[int]) -> list[int]:
        image = Image.fromarray(np.array([values], np.int32))
        assert image.mode == "I"
        return list(pixels(open_rgb(encode(image, "TIFF")))[0, :, 0])

    assert shown([0, 100, 255]) == [0, 100, 255]
    assert shown([0, 257 * 100, 65535]) == [0, 100, 255]
    assert shown([-5, 70_000, 140_000]) == [0, 128, 255]


def test_float_tiff() -> None:
    def shown(values: list[float]) -> list[int]:
        image = Image.fromarray(np.array([values], np.float32))
        assert image.mode == "F"
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return list(pixels(open_rgb(encode(image, "TIFF")))[0, :, 0])

    assert shown([0.0, 0.5, 1.0]) == [0, 128, 255]
    assert shown([0.0, 127.6, 255.0]) == [0, 128, 255]
    assert shown([-1.0, 0.5, 1.0]) == [0, 128, 255]
    assert shown([float("nan"), 0.5, 1.0]) == [0, 128, 255]
    assert shown([float("-inf"), float("inf"), 1.0]) == [0, 0, 255]
    assert shown([-3e38, 3e38, 7.0]) == [0, 0, 7], "no data"
    assert shown([0.0, 0.5, 1.04]) == [0, 128, 255], "overshoot"
    assert shown([0.0, 257.0 * 100, 65535.0]) == [0, 100, 255]
    assert shown([0.0, 4e5, 1e6]) == [0, 102, 255]


def test_first_frame_of_an_animation() -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in (RED, BLUE)]
    for kind in ("GIF", "WEBP", "PNG", "TIFF"):
        options: dict[str, Any] = {"lossless": True} if kind == "WEBP" else {}
        data = encode(frames[0], kind, save_all=True, append_images=frames[1:], **options)
        assert open_rgb(data).getpixel((0, 0)) == RED


def test_path_and_bytes_give_the_same(tmp_path: Path) -> None:
    path = tmp_path / "a b ü.png"
    noise().save(path)
    assert (load_pixels(path, 16) == load_pixels(path.read_bytes(), 16)).all()


@pytest.mark.parametrize(
    ("data", "reason", "message"),
    [
        (b"", "empty", "the file is empty (0 bytes)"),
        (b"no picture at all", "not_an_image", "not an image in a known format"),
        (b"\xff\xd8\xff", "not_an_image", "not an image in a known format"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not_an_image", "not an image in a known format"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", "not_an_image", "not an image"),
        (b"P6 2 1 255\n\0\0\0\0\0\0", "not_an_image", "not an image in a known format"),
        (encode(noise(), "JPEG")[:700], "truncated", "cannot be decoded"),
        (encode(noise(), "PNG")[:700], "truncated", "cannot be decoded"),
        (bare_png(8_000, 8_000), "too_large", "8000 x 8000 pixels is more than the limit of 50,000,000"),
        (bare_png(60_000, 60_000), "too_large", "3600000000"),
        (bare_png(50, 50), "truncated", "cannot be decoded"),
        (bare_png(50, 50, b"no zlib stream"), "corrupt", "cannot be decoded"),
        (bare_png(0, 50), "not_an_image", "not an image"),
    ],
    ids=range(13),
)
def test_refusals_name_the_file_and_the_reason(tmp_path: Path, data: bytes, reason: str, message: str) -> None:
    path = tmp_path / "bad.png"
    path.write_bytes(data)
    for source, name, label in ((path, "", str(path)), (path, "upload 3", "upload 3"), (data, "", "image")):
        with pytest.raises(ImageError) as caught:
            load_pixels(source, 16, name=name)
        assert caught.value.reason == reason
        assert caught.value.message.startswith(f"{label}: ")
        assert message in caught.value.message
        assert caught.value.hint


def test_missing_file_and_folder(tmp_path: Path) -> None:
    for path in (tmp_path / "no.png", tmp_path):
        with pytest.raises(ImageError, match="cannot be read") as caught:
            open_rgb(path)
        assert caught.value.reason == "unreadable"


def test_limit_is_inclusive_and_checked_before_decoding() -> None:
    data = encode(noise(40, 30), "PNG")
    assert open_rgb(data, max_pixels=1200).size == (40, 30)
    with pytest.raises(ImageError, match="40 x 30 pixels is more than the limit of 1,199") as caught:
        open_rgb(data, max_pixels=1199)
    assert caught.value.reason == "too_large"
    with pytest.raises(ImageError) as caught:
        open_rgb(data[:60], max_pixels=1199)
    assert caught.value.reason == "too_large"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP"])
def test_truncated_at_every_point(kind: str) -> None:
    data = encode(noise(), kind)
    for cut in sorted({*range(1, 64), *range(64, len(data), max(1, len(data) // 60)), len(data) - 1}):
        reason = outcome(data[:cut])
        assert reason in {"truncated", "not_an_image", "corrupt", "fine"}
        assert reason != "fine" or cut > len(data) * 0.9, f"{cut} of {len(data)} bytes were taken for a whole image"


@settings(deadline=None, max_examples=60)
@given(st.binary(max_size=200), st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"GIF89a", b"BM", b"II*\0",
                                                 b"MM\0*", b"RIFF\x40\0\0\0WEBPVP8 "]))  # fmt: skip
def test_random_bytes_end_as_image_error_or_image(body: bytes, head: bytes) -> None:
    assert outcome(head + body) in REASONS


@settings(deadline=None, max_examples=80)
@given(st.sampled_from(["JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP"]), st.integers(0, 10_000), st.integers(1, 255))
def test_a_flipped_byte_ends_as_image_error_or_image(kind: str, place: int, change: int) -> None:
    data = bytearray(encode(corners(), kind))
    data[place % len(data)] ^= change
    assert outcome(bytes(data)) in REASONS


def test_threads_agree_and_leave_the_warning_filters_alone() -> None:
    data = encode(noise(400, 300), "JPEG")
    expected = load_pixels(data, 16).tobytes()
    before = list(warnings.filters)
    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(lambda _: load_pixels(data, 16).tobytes(), range(200)))
    assert found == {expected}
    assert list(warnings.filters) == before


def test_warnings_of_pillow_are_not_shown() -> None:
    exif = Image.Exif()
    exif[0x010F] = "maker"
    broken = encode(corners(), "JPEG", exif=exif.tobytes()[:-8])
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        with Image.open(io.BytesIO(broken)) as image:
            image.getexif()
        assert seen, "the file no longer makes Pillow warn"
        seen.clear()
        assert open_rgb(broken).size == corners().size
        assert not seen
