"""Pixels to the network's square: by SIMD instructions, by Pillow, and as networks were trained before."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from vision_mlops.images import resizing
from vision_mlops.images.decoding import load_pixels
from vision_mlops.images.resizing import Pixels, ResizeMode, resize, resize_by_pillow

RED, GREEN, BLUE = (200, 30, 30), (30, 200, 30), (30, 30, 200)
SIZES = [(40, 30), (30, 40), (32, 32), (33, 32), (1, 1), (1, 200), (3000, 2), (640, 480)]


def noise(width: int, height: int) -> Pixels:
    return np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8)


def png(pixels: Pixels) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


@pytest.mark.parametrize("mode", ["squash", "crop"])
@pytest.mark.parametrize("size", SIZES)
def test_both_ways_are_one_filter(size: tuple[int, int], mode: ResizeMode, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = noise(*size)
    found = load_pixels(png(pixels), 32, mode)
    assert found.shape == (32, 32, 3)
    assert found.dtype == np.uint8
    assert found.flags.c_contiguous
    assert (found == resize(pixels, 32, mode)).all()
    before = resize_by_pillow(Image.fromarray(pixels), 32, mode)
    assert np.abs(found.astype(int) - before).max() <= 1
    monkeypatch.setattr(resizing, "simd", None)  # as on a platform without wheels
    assert (resize(pixels, 32, mode) == before).all()


def test_a_bundle_without_a_version_is_asked_as_it_was_trained() -> None:
    pixels = noise(300, 200)
    for version in (0, 1):
        found = load_pixels(png(pixels), 32, version=version)
        assert (found == resize_by_pillow(Image.fromarray(pixels), 32)).all()
    assert (load_pixels(png(pixels), 32) != found).any(), "rounded differently"


def test_squash_keeps_all_and_crop_keeps_proportions() -> None:
    image = Image.new("RGB", (90, 30), GREEN)
    image.paste(RED, (0, 0, 30, 30))
    image.paste(BLUE, (60, 0, 90, 30))
    squashed, cropped = (resize(np.asarray(image), 30, mode) for mode in ("squash", "crop"))
    assert squashed[15, 2].tolist() == list(RED)
    assert squashed[15, 27].tolist() == list(BLUE)
    assert (cropped == GREEN).all()


@pytest.mark.parametrize("mode", ["squash", "crop"])
def test_right_size_is_not_touched(mode: ResizeMode) -> None:
    pixels = noise(32, 32)
    assert (resize(pixels, 32, mode) == pixels).all()
    turned = noise(32, 40)[:, ::-1]  # not contiguous
    assert (resize(turned, 32, mode) == resize(np.ascontiguousarray(turned), 32, mode)).all()


def test_threads_do_not_share_buffers() -> None:
    pictures = [noise(width, 90) for width in range(100, 140)]
    expected = [resize(pixels, 32).tobytes() for pixels in pictures]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda pixels: resize(pixels, 32).tobytes(), pictures)) == expected
