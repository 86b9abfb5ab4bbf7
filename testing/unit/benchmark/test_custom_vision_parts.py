"""Parts of the contestant custom-vision that need no service."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vision_mlops.benchmark.custom_vision.call_limiter import CallLimiter
from vision_mlops.benchmark.custom_vision.image_payloads import ImagePayloads
from vision_mlops.benchmark.custom_vision.image_upload import UploadRow
from vision_mlops.benchmark.custom_vision.json_line_log import JsonLineLog
from vision_mlops.benchmark.custom_vision.sku_limits import check_sizes, prediction_warning
from vision_mlops.benchmark.custom_vision.vision_project import project_name, tag_names
from vision_mlops.core.errors import DataError


@pytest.mark.parametrize("arrival", [0.0, 1.0], ids=["at once", "at the end"])
def test_no_second_has_more_calls_than_are_allowed(arrival: float) -> None:
    """Whenever a call reaches the service: a slow first one does not come close to the third."""
    now, reached, last = 100.0, [], 0.0

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    limiter = CallLimiter(2, clock=lambda: now, sleep=sleep)
    for number in range(20):
        with limiter.call():
            last = now
            takes = 0.9 if number % 5 == 0 else 0.1
            reached.append(now + (takes * arrival if number % 5 == 0 else 0.0))
            now += takes
    assert reached[0] == 100.0 + 0.9 * arrival, "the first waits for nothing"
    assert all(sum(start <= other < start + 1.0 for other in reached) <= 2 for start in reached)
    assert last < 100.0 + 10 * 2, "they are not held up for longer than it takes"


def test_a_log_loses_at_most_what_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "own" / "log.jsonl"
    first, second = (UploadRow(project="p", sha256=digest, image=digest, tag="t") for digest in "ab")
    JsonLineLog(path, UploadRow).add(first)
    with path.open("ab") as stream:
        stream.write(b'{"project": "p", "sha')  # killed here
    log = JsonLineLog(path, UploadRow)
    assert (log.rows, log.damaged) == ([first], 0)
    with path.open("ab") as stream:
        stream.write(b'\xff garbage\n{"project": "p"}\n[1]\n')
    log = JsonLineLog(path, UploadRow)
    assert (log.rows, log.damaged) == ([first], 3)
    log.add(second)
    log = JsonLineLog(path, UploadRow)
    assert (log.rows, log.damaged) == ([first, second], 0), "the file is whole again"


def test_names_of_tags() -> None:
    classes = ["good", "Straße (alt)", "a/b", "Good", "negative", "class 0", " x", "y" * 65, "naïve 🙂"]
    names = tag_names(classes)
    assert names == [
        "class 0", "Straße (alt)", "class 2", "class 3", "class 4", "class 5", "class 6", "class 7", "class 8",
    ]  # fmt: skip
    assert project_name("w", "f", "General") != project_name("w", "f", "General [A1]")
    assert len(project_name("w" * 99, "f", "General")) <= 50


def test_images_are_sent_as_they_are_or_encoded_anew(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (300, 400, 3), np.uint8)
    large, small, other = tmp_path / "large.png", tmp_path / "small.png", tmp_path / "other.webp"
    Image.fromarray(noise).save(large)
    Image.fromarray(noise[:40, :40]).save(small)
    Image.fromarray(noise[:40, :40]).save(other)
    payloads = ImagePayloads(60_000)
    assert payloads.read(small) == small.read_bytes()
    assert payloads.told() == ""
    sent = payloads.read(large)
    with Image.open(io.BytesIO(sent)) as image:
        assert len(sent) <= 60_000
        assert image.width < 400
        assert image.width / image.height == pytest.approx(4 / 3, abs=0.02)
    with Image.open(io.BytesIO(payloads.read(other))) as image:
        assert (image.format, image.size) == ("JPEG", (40, 40))
    plain = tmp_path / "plain.png"
    Image.new("RGB", (400, 300)).save(plain, compress_level=0)
    for _ in range(2):  # one that is read again is one image
        with Image.open(io.BytesIO(payloads.read(plain))) as image:
            assert image.size == (400, 300), "as a JPEG it is small enough"
    assert payloads.told() == "images for Custom Vision: 2 above 0.06 MB scaled down for the service, 1 encoded as JPEG"


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ({"a": 9}, "at least two classes"),
        ({"a": 9, "b": 4}, "'b' has 4"),
        ({str(number): 5 for number in range(51)}, "takes 50 classes, and there are 51"),
        ({"a": 2501, "b": 2500}, "takes 5,000 training images, and there are 5,001"),
    ],
    ids=["one class", "few", "classes", "images"],
)
def test_what_the_sku_does_not_take_is_refused_before_an_upload(images: dict[str, int], message: str) -> None:
    with pytest.raises(DataError, match=message):
        check_sizes("F0", images)


def test_what_the_sku_takes() -> None:
    check_sizes("F0", {"a": 2500, "b": 2500})
    check_sizes("S0", {str(number): 200 for number in range(500)})
    assert "10,001 test images" in prediction_warning("F0", 10_001)
    assert prediction_warning("F0", 10_000) == prediction_warning("S0", 10_001) == ""
