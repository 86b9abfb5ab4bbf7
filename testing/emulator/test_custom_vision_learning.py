"""What the emulated Custom Vision learns with: real where tags are, by chance where they are mixed up."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from testing.support.jobs import until
from testing.support.vision_accounts import picture

from azureml_emulator.custom_vision.learning.image_features import VIEWS, Array, features, weights
from azureml_emulator.custom_vision.learning.performance import Performance, average_precision
from azureml_emulator.custom_vision.learning.tag_classifier import TagClassifier, fit, judge, look_at
from azureml_emulator.custom_vision.trainings import MINUTES, Trainings
from azureml_emulator.custom_vision.vision_database import VisionDatabase, moment

KINDS = ("across", "down")
COUNT = 120


@pytest.fixture(scope="module")
def numbers() -> Array:
    return look_at([picture(KINDS[number % 2], number) for number in range(COUNT)], 1)


def truth(places: Array) -> Array:
    return np.eye(2, dtype=bool)[places]


@pytest.mark.parametrize("multilabel", [False, True])
def test_tags_are_learnt_and_mixed_up_tags_are_not(numbers: Array, multilabel: bool) -> None:
    right = np.arange(COUNT) % 2
    said, folds = judge(numbers, truth(right), multilabel)
    assert (said.argmax(1) == right).mean() > 0.95
    assert sorted(np.bincount(folds)) == [COUNT // 5] * 5
    mixed = np.random.default_rng(5).permutation(right)
    said, _ = judge(numbers, truth(mixed), multilabel)
    assert 0.3 < (said.argmax(1) == mixed).mean() < 0.7


def test_a_classifier_is_the_same_after_it_was_kept(numbers: Array) -> None:
    made = fit(numbers[0], truth(np.arange(COUNT) % 2), multilabel=False, views=2)
    again = TagClassifier.from_bytes(made.to_bytes())
    content = picture("down", 500)
    assert again.predict(content) == made.predict(content)
    assert sum(made.predict(content)) == pytest.approx(1)


def test_a_tag_that_all_images_have_is_not_learnt_but_said(numbers: Array) -> None:
    tags = np.stack([np.ones(COUNT, dtype=bool), np.arange(COUNT) % 2 == 1], axis=1)
    always, down = fit(numbers[0], tags, multilabel=True).predict(picture("down", 500))
    assert always > 0.9
    assert down > 0.9


@pytest.mark.parametrize(
    ("mode", "kind", "size"),
    [
        ("RGB", "PNG", (1, 1)),
        ("L", "JPEG", (3, 900)),
        ("P", "GIF", (40, 20)),
        ("RGBA", "PNG", (700, 300)),
        ("1", "BMP", (9, 9)),
    ],
)
def test_every_image_has_the_same_number_of_numbers(mode: str, kind: str, size: tuple[int, int]) -> None:
    stream = io.BytesIO()
    Image.new(mode, size, 1).save(stream, kind)
    found = [features(stream.getvalue(), view) for view in range(VIEWS)]
    assert {item.shape for item in found} == {weights().shape}
    assert np.isfinite(found).all()


def test_performance_is_counted_at_a_threshold() -> None:
    content = {
        "tags": [{"id": "a", "name": "A", "type": "Regular"}, {"id": "b", "name": "B", "type": "Regular"}],
        "images": {"1": ["a"], "2": ["a"], "3": ["b"], "4": ["b"]},
    }
    judged = {
        "tags": ["a", "b"], "images": ["1", "2", "3", "4"], "folds": [0, 1, 0, 1],
        "said": [[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.3, 0.7]],
    }  # fmt: skip
    performance = Performance(json.dumps(content), json.dumps(judged))
    found = performance.describe(0.5)
    assert (found["precision"], found["recall"]) == (0.75, 0.75)
    assert (found["precisionStdDeviation"], found["recallStdDeviation"]) == (0.25, 0.25)
    a, b = found["perTagPerformance"]
    assert (a["precision"], a["recall"], b["precision"], b["recall"]) == (1, 0.5, pytest.approx(2 / 3), 1)
    assert performance.describe(0.95)["recall"] == 0
    assert [item["tagName"] for item in performance.predictions("2")] == ["B", "A"]
    assert average_precision(np.array([0.9, 0.8, 0.1]), np.array([True, False, True])) == pytest.approx((1 + 2 / 3) / 2)


def test_a_training_that_cannot_end_has_failed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    database = VisionDatabase(tmp_path / "vision.db")
    common = {"created": moment(), "modified": moment()}
    database.insert("projects", {"id": "p", "account": "a", "name": "p", "description": "", "settings": "{}", **common})
    content = {"tags": [{"id": "t"}], "images": {"removed": ["t"]}}
    database.insert("iterations", {
        "id": "i", "project": "p", "name": "Iteration 1", "number": 1, "status": "Training", "domain": "", "budget": 0,
        "classification": "Multiclass", "training_type": "Regular", "fingerprint": "", "content": json.dumps(content),
        **common,
    })  # fmt: skip
    trainings = Trainings(database)
    trainings.resume()
    until(lambda: database.number("select count(*) from iterations where status = 'Failed'") == 1, 30)
    assert "the image removed was removed while it was needed" in caplog.text
    assert database.used("a", MINUTES) == 0
    database.close()
