"""The fast way of decoding a JPEG gives Pillow's pixels, or leaves the file to Pillow."""

from __future__ import annotations

import io
from typing import Any, get_args

import numpy as np
import pytest
import simplejpeg
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vision_mlops.core.errors import ImageError
from vision_mlops.images.decoding import MAX_PIXELS, PixelsVersion, load_pixels, open_rgb
from vision_mlops.images.jpeg import decode_jpeg, reduction
from vision_mlops.images.orientation import upright
from vision_mlops.images.resizing import resize

SIZES = [(64, 48), (65, 47), (200, 33), (17, 90), (8, 8)]
MODES: dict[str, dict[str, Any]] = {
    "444": {"subsampling": 0}, "422": {"subsampling": 1}, "420": {"subsampling": 2}, "grey": {"grey": True},
    "progressive": {"progressive": True}, "restart": {"restart_marker_blocks": 2},
}  # fmt: skip


def photo(size: tuple[int, int], *, grey: bool = False, kind: str = "JPEG", **options: Any) -> bytes:
    draw = np.random.default_rng(size[0])
    coarse = Image.fromarray(draw.integers(0, 255, (9, 9, 3), dtype=np.uint8)).resize(size, Image.Resampling.BICUBIC)
    noisy = np.asarray(coarse).astype(int) + draw.normal(0, 9, (size[1], size[0], 3))
    image = Image.fromarray(noisy.clip(0, 255).astype(np.uint8))
    stream = io.BytesIO()
    (image.convert("L") if grey else image).save(stream, kind, quality=90, **options)
    return stream.getvalue()


def by_pillow(data: bytes, edge: int | None = None) -> np.ndarray:
    image = Image.open(io.BytesIO(data))
    if edge:
        image.draft(None, (edge, edge))
    return np.asarray(image.convert("RGB"))


def decoded(data: bytes, edge: int | None, max_pixels: int) -> np.ndarray | None:
    found = decode_jpeg(data, edge, max_pixels)
    return None if found is None else np.asarray(upright(Image.fromarray(found[0]), found[1]))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("edge", [None, 4, 8, 16, 30])
def test_pixels_are_those_of_pillow_at_every_scale(size: tuple[int, int], mode: str, edge: int | None) -> None:
    data = photo(size, **MODES[mode])
    found = decoded(data, edge, MAX_PIXELS)
    assert found is not None
    assert np.array_equal(found, by_pillow(data, edge))
    assert edge is None or min(found.shape[:2]) >= min(edge, *size)


@given(st.integers(1, 5000), st.integers(1, 5000), st.integers(1, 600))
def test_the_scale_is_the_one_that_pillow_chooses(width: int, height: int, edge: int) -> None:
    asked = min(width // edge, height // edge)  # what JpegImageFile.draft computes
    assert reduction(width, height, edge) == max((scale for scale in (8, 4, 2, 1) if asked >= scale), default=1)


@pytest.mark.parametrize("orientation", [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 255])
def test_orientation(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = photo((64, 32), exif=exif)
    upright = open_rgb(data)
    found = decoded(data, None, MAX_PIXELS)
    assert found is not None
    assert found.shape[:2] == ((64, 32) if orientation in (5, 6, 7, 8) else (32, 64))
    assert np.array_equal(found, np.asarray(upright))


def test_orientation_in_an_xmp_packet_counts_as_with_pillow() -> None:
    packet = b'http://ns.adobe.com/xap/1.0/\0<x:xmpmeta xmlns:x="adobe:ns:meta/" tiff:Orientation="6"></x:xmpmeta>'
    data = photo((64, 32))
    segment = b"\xff\xe1" + (len(packet) + 2).to_bytes(2, "big") + packet
    found = decoded(data[:2] + segment + data[2:], None, MAX_PIXELS)
    assert found is not None
    assert found.shape[:2] == (64, 32)


def test_what_is_left_to_pillow() -> None:
    stream = io.BytesIO()
    Image.new("CMYK", (32, 32), (10, 200, 30, 0)).save(stream, "JPEG")
    cmyk = stream.getvalue()
    assert decode_jpeg(cmyk, None, MAX_PIXELS) is None
    assert open_rgb(cmyk).size == (32, 32)
    assert decode_jpeg(photo((32, 32), kind="PNG"), None, MAX_PIXELS) is None
    assert decode_jpeg(photo((32, 32)), None, 32 * 32 - 1) is None
    with pytest.raises(ImageError, match="more than the limit"):
        load_pixels(photo((32, 32)), 16, max_pixels=32 * 32 - 1)


@pytest.mark.parametrize("version", get_args(PixelsVersion))
def test_a_cut_file_is_refused_at_every_scale(version: PixelsVersion) -> None:
    data = photo((200, 160))
    for length in range(4, len(data) - 2, 97):
        with pytest.raises(ImageError) as caught:
            load_pixels(data[:length], 20, version=version)
        assert caught.value.reason in ("truncated", "corrupt", "not_an_image")


@given(st.integers(0, 10**6), st.integers(0, 255), st.sampled_from([None, 16]))
@settings(max_examples=150, deadline=None)
def test_a_changed_byte_is_taken_as_pillow_takes_it(place: int, value: int, edge: int | None) -> None:
    data = bytearray(photo((64, 48)))
    data[place % len(data)] = value
    found = decoded(bytes(data), edge, MAX_PIXELS)
    if found is not None:
        image = Image.open(io.BytesIO(bytes(data)))
        turned = image.getexif().get(0x0112, 1) != 1
        assert turned or np.array_equal(found, by_pillow(bytes(data), edge))


def test_large_photos_come_out_nearly_as_decoded_whole() -> None:
    data = photo((1600, 1200))
    whole, *reduced = (load_pixels(data, 100, version=version).astype(int) for version in get_args(PixelsVersion))
    assert all(0 < np.abs(whole - found).mean() < 1 for found in reduced)


@pytest.mark.parametrize(
    ("version", "edge", "scale"),
    [(2, 310, 1), (2, 320, 2), (3, 238, 1), (3, 240, 2), (3, 474, 2), (3, 480, 4), (3, 1280, 8)],
)
def test_by_how_much_a_photo_is_scaled_in_the_decoder(version: PixelsVersion, edge: int, scale: int) -> None:
    """For a network of 80 pixels: twice as large an image was left to be scaled in version 2, and one and a half since."""
    data = photo((edge + 40, edge))
    least = {"min_height": -(-edge // scale), "min_width": -(-(edge + 40) // scale)} if scale > 1 else {}
    pixels = simplejpeg.decode_jpeg(data, "RGB", **least)
    assert pixels.shape[0] == -(-edge // scale)
    assert np.array_equal(load_pixels(data, 80, version=version), resize(pixels, 80))


def test_an_image_of_the_right_size_is_only_decoded() -> None:
    data = photo((48, 48))
    assert np.array_equal(load_pixels(data, 48), by_pillow(data))
