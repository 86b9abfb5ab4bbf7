"""Corruptions: repeatable, stronger with their strength, and fit for whatever the decoder gives."""

from __future__ import annotations

import io
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

from vision_mlops.images.corruptions import (
    CORRUPTIONS,
    LARGEST_EDGE,
    STRENGTHS,
    CorruptionName,
    as_jpeg,
    corrupt,
    level,
    limited,
)
from vision_mlops.images.decoding import load_pixels, open_rgb


def photo(width: int = 240, height: int = 200) -> Image.Image:
    """Coarse and fine structure, colours, and no pixel that is black or white."""
    down, across = np.mgrid[:height, :width]
    waves = [90 * np.sin(across / step) * np.cos(down / (step + 1)) / 2 for step in (2, 7, 20)]
    pixels = np.stack([128 + sum(waves) * share for share in (1.0, 0.8, 0.5)], -1)
    return Image.fromarray(np.clip(pixels, 20, 235).astype(np.uint8))


def distance(one: Image.Image, other: Image.Image) -> float:
    return float(np.abs(np.asarray(one, np.float64) - np.asarray(other, np.float64)).mean())


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_stronger_corruption_changes_an_image_more_and_always_in_the_same_way(name: CorruptionName) -> None:
    image = photo()
    before = image.tobytes()
    corrupted = [corrupt(image, name, strength, "content") for strength in STRENGTHS]
    again = [corrupt(image, name, strength, "content") for strength in STRENGTHS]
    assert [one.tobytes() for one in corrupted] == [one.tobytes() for one in again]
    distances = [0.0, *(distance(image, one) for one in corrupted)]
    assert all(weaker < stronger for weaker, stronger in pairwise(distances))
    assert {(one.size, one.mode) for one in corrupted} == {(image.size, "RGB")}
    assert corrupt(image, name, 0, "content").tobytes() == image.tobytes() == before


def test_each_corruption_does_what_it_is_called() -> None:
    image, grey = photo(224, 224), Image.new("RGB", (224, 224), (128, 128, 128))
    noise = np.asarray(corrupt(grey, "noise", 2, "a"), np.float64) - 128
    assert noise.std() == pytest.approx(0.12 * 255, rel=0.02)
    assert corrupt(grey, "noise", 2, "b") != corrupt(grey, "noise", 2, "a")
    pixels, pale = (np.asarray(one, np.float64) for one in (image, corrupt(image, "contrast", 1, "a")))
    assert pale.std((0, 1)) == pytest.approx(0.4 * pixels.std((0, 1)), rel=0.02)
    assert pale.mean((0, 1)) == pytest.approx(pixels.mean((0, 1)), abs=0.5)
    edge = Image.new("RGB", (224, 224))
    edge.paste((255, 255, 255), (112, 0, 224, 224))
    rise = np.diff(np.asarray(corrupt(edge, "blur", 3, "a"), np.float64)[112, :, 0])
    places = np.arange(rise.size)
    spread = np.sqrt((rise * (places - (rise * places).sum() / rise.sum()) ** 2).sum() / rise.sum())
    assert spread == pytest.approx(3.0, rel=0.1)
    with Image.open(io.BytesIO(as_jpeg(image, 5))) as stored:
        assert stored.format == "JPEG"
        assert corrupt(image, "jpeg", 5, "a").tobytes() == stored.convert("RGB").tobytes()
    assert len(as_jpeg(image, 5)) < len(as_jpeg(image, 1)) < len(as_jpeg(image, 0)) / 2


def test_strengths_in_between_lie_between_the_levels() -> None:
    assert [level("blur", strength) for strength in (0, 0.5, 1, 3.5, 5)] == [0.0, 0.5, 1.0, 3.5, 6.0]
    assert level("jpeg", 0) > level("jpeg", 0.5) > level("jpeg", 1) == 25


def test_the_damage_at_the_input_of_a_network_does_not_depend_on_the_size_of_the_image() -> None:
    """The same scene with twice the pixels, after scaling: noise and blur are as strong as in the smaller image."""
    small = photo(224, 224)
    large = small.resize((448, 448), Image.Resampling.BICUBIC)
    for name in ("noise", "blur", "contrast"):
        found = [
            distance(*(one.resize((112, 112), Image.Resampling.BOX) for one in (image, corrupt(image, name, 2, "a"))))
            for image in (small, large)
        ]
        assert found[1] == pytest.approx(found[0], rel=0.15), name


def test_large_images_are_reduced_first_and_others_are_not() -> None:
    assert limited(Image.new("RGB", (3 * LARGEST_EDGE, 2 * LARGEST_EDGE))).size == (768, LARGEST_EDGE)
    as_it_is = Image.new("RGB", (4000, LARGEST_EDGE))
    assert limited(as_it_is) is as_it_is


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "I;16", "1", "CMYK"])
def test_whatever_the_decoder_reads_can_be_corrupted(mode: str) -> None:
    stream = io.BytesIO()
    image = photo(133, 120)
    grey16 = Image.fromarray(np.asarray(image.convert("L"), np.uint16) * 257)
    (grey16 if mode == "I;16" else image.convert(mode)).save(stream, "TIFF" if mode == "CMYK" else "PNG")
    decoded = open_rgb(stream.getvalue())
    for name in CORRUPTIONS:
        corrupted = corrupt(decoded, name, 3, "content")
        assert (corrupted.mode, corrupted.size) == ("RGB", (133, 120))
        assert corrupted.tobytes() != decoded.tobytes()


def test_tiny_images_can_be_corrupted() -> None:
    for size in ((1, 1), (1, 9), (2, 300)):
        for name in CORRUPTIONS:
            assert corrupt(Image.new("RGB", size, (90, 120, 150)), name, 5, "content").size == size


def test_a_corrupted_image_goes_through_a_file_unchanged() -> None:
    corrupted, stream = corrupt(photo(64, 64), "noise", 3, "a"), io.BytesIO()
    corrupted.save(stream, "BMP")
    assert load_pixels(stream.getvalue(), 64).tobytes() == corrupted.tobytes()
