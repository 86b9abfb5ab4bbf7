"""Images are known by their content, and scaled down as they are meant to be seen."""

from __future__ import annotations

import base64
import io
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image, ImageOps
from testing.unit.flask_app.conftest import picture

from vision_mlops.flask_app import uploads
from vision_mlops.flask_app.app_errors import AppError
from vision_mlops.flask_app.uploads import preview, read_upload, scaled_to

LIMIT = 50_000_000


def noise(size: tuple[int, int], mode: str = "RGB", seed: int = 0) -> Image.Image:
    bands = len(Image.new(mode, (1, 1)).getbands())
    shape = (size[1], size[0], bands) if bands > 1 else (size[1], size[0])
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, shape, np.uint8), mode)


def saved(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def pixels(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB")).astype(int)


@pytest.mark.parametrize(
    ("kind", "media_type", "suffix"),
    [
        ("JPEG", "image/jpeg", ".jpg"), ("PNG", "image/png", ".png"), ("WEBP", "image/webp", ".webp"),
        ("GIF", "image/gif", ".gif"), ("BMP", "image/bmp", ".bmp"), ("TIFF", "image/tiff", ".tif"),
        ("AVIF", "image/avif", ".avif"), ("JPEG2000", "image/jp2", ".jp2"),
    ],
)  # fmt: skip
def test_the_type_is_that_of_the_content(kind: str, media_type: str, suffix: str) -> None:
    upload = read_upload(picture((40, 30), kind), LIMIT)
    assert (upload.media_type, upload.suffix, upload.width, upload.height) == (media_type, suffix, 40, 30)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_an_image_that_fits_is_sent_untouched(kind: str) -> None:
    data = picture((300, 200), kind)
    assert scaled_to(read_upload(data, LIMIT), len(data)).data is data


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "TIFF", "WEBP"])
@pytest.mark.parametrize("limit", [100_000, 400_000])
def test_a_large_image_becomes_a_smaller_jpeg_of_the_same_shape(kind: str, limit: int) -> None:
    data = saved(noise((1000, 500)), kind, **({"quality": 95} if kind in ("JPEG", "WEBP") else {}))
    assert len(data) > limit
    upload = scaled_to(read_upload(data, LIMIT), limit)
    assert len(upload.data) <= limit
    assert (upload.media_type, upload.suffix, upload.width) == ("image/jpeg", ".jpg", 2 * upload.height)
    assert Image.open(io.BytesIO(upload.data)).size == (upload.width, upload.height)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_scaled_image_is_upright(orientation: int) -> None:
    stored = Image.new("RGB", (800, 600), "red")
    stored.paste("blue", (0, 0, 200, 150))
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = saved(stored, "JPEG", exif=exif)
    with Image.open(io.BytesIO(data)) as image:
        expected = np.asarray(ImageOps.exif_transpose(image).resize((8, 8))).astype(int)
    scaled = scaled_to(read_upload(data, LIMIT), len(data) - 1)
    with Image.open(io.BytesIO(scaled.data)) as image:
        assert image.getexif().get(0x0112, 1) == 1
        assert np.abs(np.asarray(image.resize((8, 8))).astype(int) - expected).max() < 40


def test_what_can_be_seen_through_is_white() -> None:
    image = noise((700, 700), "RGBA")
    image.putalpha(0)
    data = saved(image)
    assert pixels(scaled_to(read_upload(data, LIMIT), len(data) - 1).data).min() > 250


@pytest.mark.parametrize(("value", "expected"), [(0, 0), (32896, 128), (65535, 255)])
def test_sixteen_bits_stay_as_bright_as_they_are(value: int, expected: int) -> None:
    shades = np.full((600, 600), value, np.uint16)
    data = saved(Image.fromarray(shades))
    found = pixels(uploads._as_jpeg(uploads._small(data, 64)))
    assert np.abs(found - expected).max() <= 2


@pytest.mark.parametrize("mode", ["I", "F"])
def test_thirty_two_bits_are_not_guessed_at(mode: str) -> None:
    data = saved(Image.new(mode, (300, 300)), "TIFF")
    with pytest.raises(AppError) as caught:
        scaled_to(read_upload(data, LIMIT), 1000)
    assert (caught.value.status, caught.value.code) == (422, "too_deep")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP"])
def test_a_damaged_image_is_named(kind: str) -> None:
    data = saved(noise((300, 300)), kind)
    upload = read_upload(data[: len(data) // 2], LIMIT)
    with pytest.raises(AppError) as caught:
        scaled_to(upload, 1000)
    assert (caught.value.status, caught.value.code) == (422, "corrupt")


def test_a_preview_is_small_and_knows_its_size() -> None:
    found = preview(read_upload(saved(noise((1200, 600)), "JPEG"), LIMIT))
    head, _, data = str(found["url"]).partition(",")
    assert head == "data:image/jpeg;base64"
    with Image.open(io.BytesIO(base64.b64decode(data))) as image:
        assert image.size == (found["width"], found["height"])
        assert max(image.size) <= 800


def test_no_more_than_two_images_are_decoded_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    at_once, most, lock = 0, 0, threading.Lock()
    original = uploads._in_eight_bits

    def counted(image: Image.Image) -> Image.Image:
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
        try:
            return original(image)
        finally:
            with lock:
                at_once -= 1

    monkeypatch.setattr(uploads, "_in_eight_bits", counted)
    data = saved(noise((800, 800)), "JPEG")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: scaled_to(read_upload(data, LIMIT), 100_000), range(8)))
    assert 1 <= most <= 2
