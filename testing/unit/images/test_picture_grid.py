"""Images side by side as SVG: places, sizes, texts in any script."""

from __future__ import annotations

import base64
import io
from xml.etree import ElementTree

import pytest
from PIL import Image

from vision_mlops.images.picture_grid import GridImage, picture_grid

SVG = "{http://www.w3.org/2000/svg}"


def test_images_stand_in_rows_with_their_lines_below() -> None:
    shown = [GridImage(Image.new("RGB", (400, 200), "red"), (f"is <{n}> & 木",)) for n in range(3)]
    grid = ElementTree.fromstring(picture_grid(shown, columns=2, edge=100).svg)
    images, texts = grid.findall(f"{SVG}image"), grid.findall(f"{SVG}text")
    assert [(image.get("x"), image.get("width"), image.get("height")) for image in images] == [
        ("0", "100", "50"), ("110", "100", "50"), ("0", "100", "50"),
    ]  # fmt: skip
    tops = [int(image.get("y", "")) for image in images]
    assert tops[0] == tops[1] == 0 < tops[2]
    assert [text.text for text in texts] == ["is <0> & 木", "is <1> & 木", "is <2> & 木"]
    assert all(int(text.get("y", "")) - top > 50 for text, top in zip(texts, tops, strict=True))
    assert int(grid.get("height", "")) > tops[2] + 50


def test_an_image_inside_is_the_one_that_was_given() -> None:
    grid = ElementTree.fromstring(picture_grid([GridImage(Image.new("L", (4000, 2), 200))], columns=4).svg)
    (image,) = grid.findall(f"{SVG}image")
    with Image.open(io.BytesIO(base64.b64decode(image.get("href", "").partition(",")[2]))) as found:
        assert found.size == (112, 1), "a strip keeps a pixel"
        assert found.getpixel((50, 0)) == (200, 200, 200)


def test_no_image_is_refused() -> None:
    with pytest.raises(ValueError, match="needs at least one image"):
        picture_grid([], columns=2)


def test_a_notebook_shows_it_and_does_not_print_it() -> None:
    grid = picture_grid([GridImage(Image.new("RGB", (8, 8)))], columns=1)
    assert grid._repr_svg_() == grid.svg
    assert "svg" not in repr(grid)
