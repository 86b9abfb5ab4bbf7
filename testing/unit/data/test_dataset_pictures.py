"""Pictures of prepared data."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest
from testing.support.prepared_data import make_prepared

from vision_mlops.core.errors import DataError
from vision_mlops.data.dataset_pictures import draw_class_balance, draw_samples

SVG = "{http://www.w3.org/2000/svg}"


def test_a_row_of_samples_for_each_class(tmp_path: Path) -> None:
    make_prepared(tmp_path, train=9, test=2)
    texts = [text.text for text in ElementTree.fromstring(draw_samples(tmp_path, each=3).svg).iter(f"{SVG}text")]
    assert texts == ["blue"] * 3 + ["green"] * 3 + ["red"] * 3
    few = draw_samples(tmp_path, split="test", each=3, most_classes=1).svg
    assert [text.text for text in ElementTree.fromstring(few).iter(f"{SVG}text")] == ["blue"] * 2


def test_bars_of_all_classes_and_splits(tmp_path: Path) -> None:
    make_prepared(tmp_path, train=3, val=2, test=1)
    picture = draw_class_balance(tmp_path)
    words = {(text.text or "").strip() for text in ElementTree.fromstring(picture.svg).iter(f"{SVG}text")}
    assert {"blue", "green", "red", "train", "val", "test", "Images per class"} <= words
    assert picture == draw_class_balance(tmp_path), "the same data gave another picture"


def test_a_folder_that_is_not_prepared_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"is not prepared data: it has no manifest\.json"):
        draw_samples(tmp_path)
