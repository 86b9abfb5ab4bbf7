"""Pictures of an evaluation: of a model that is always right, and of one that exchanges two classes."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest
from testing.support.bundles import make_bundle
from testing.support.prepared_data import make_prepared

from vision_mlops.core.errors import MlopsError
from vision_mlops.core.figures import Picture
from vision_mlops.evaluation.evaluate import evaluate
from vision_mlops.evaluation.prediction_pictures import (
    CONFUSION_MATRIX,
    RELIABILITY,
    draw_heat_maps,
    draw_mistakes,
    evaluation_picture,
)

SVG = "{http://www.w3.org/2000/svg}"


def texts(picture: Picture | str) -> list[str]:
    assert isinstance(picture, Picture)
    return [(text.text or "").strip() for text in ElementTree.fromstring(picture.svg).iter(f"{SVG}text")]


@pytest.mark.slow
def test_mistakes_and_figures_of_an_evaluation(tmp_path: Path) -> None:
    make_prepared(tmp_path / "data")
    swapped = evaluate(make_bundle(tmp_path / "swapped", swap=True), tmp_path / "data", tmp_path / "report").folder
    found = texts(draw_mistakes(swapped, most=2))
    assert len([line for line in found if line.startswith("is ")]) == 2
    assert {"is blue", "taken for green"} <= set(found) or {"is green", "taken for blue"} <= set(found)
    assert "Confusion matrix" in texts(evaluation_picture(swapped, CONFUSION_MATRIX))
    assert "confidence" in texts(evaluation_picture(swapped, RELIABILITY))


@pytest.mark.slow
def test_a_model_without_mistakes_gets_a_sentence_and_heat_maps(tmp_path: Path) -> None:
    make_prepared(tmp_path / "data")
    bundle = make_bundle(tmp_path / "bundle")
    report = evaluate(bundle, tmp_path / "data", tmp_path / "report").folder
    assert draw_mistakes(report) == "No mistake among 12 test images."
    found = texts(draw_heat_maps(bundle, tmp_path / "data"))
    assert found[::2] == ["is blue", "is green", "is red"]
    assert [line.split(" with ")[0] for line in found[1::2]] == ["blue", "green", "red"]


def test_a_folder_without_an_evaluation_is_named(tmp_path: Path) -> None:
    with pytest.raises(MlopsError, match=str(tmp_path)):
        evaluation_picture(tmp_path, CONFUSION_MATRIX)
