"""Accuracy on corrupted images: what is measured, what the report and the commands show, and the floor of the gate."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from testing.support.bundles import make_bundle
from testing.support.prepared_data import make_prepared
from typer.testing import CliRunner

from vision_mlops.cli.main import app
from vision_mlops.config.workload import Gate
from vision_mlops.core.errors import DataError
from vision_mlops.data.manifest import read_manifest
from vision_mlops.evaluation.evaluate import evaluate, headline, read_evaluation
from vision_mlops.evaluation.gate import decide, write_verdict
from vision_mlops.evaluation.metrics import wilson_interval
from vision_mlops.evaluation.robustness import measure_robustness
from vision_mlops.images.corruptions import CORRUPTIONS, STRENGTHS, corrupt
from vision_mlops.images.decoding import open_rgb
from vision_mlops.model.predictor import Predictor

LENIENT = Gate(min_accuracy=0.0, min_recall_per_class=0.0, max_calibration_error=1.0, max_latency_ms=1e6)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that goes by colour, and images."""
    folder = tmp_path_factory.mktemp("world")
    make_prepared(folder / "data", test=6)
    make_bundle(folder / "bundle")
    return folder


@pytest.mark.slow
def test_accuracy_by_corruption_and_strength(world: Path) -> None:
    records = read_manifest(world / "data").of_split("test")
    seen: list[tuple[int, int]] = []
    found = measure_robustness(
        world / "bundle", world / "data", records, lambda done, total: seen.append((done, total))
    )
    assert seen == [(number, 18) for number in range(1, 19)]
    assert measure_robustness(world / "bundle", world / "data", records) == found
    assert list(found["corruptions"]) == list(CORRUPTIONS)

    predictor = Predictor(world / "bundle")
    cells = []
    for name in CORRUPTIONS:
        for row in found["corruptions"][name]["strengths"]:
            right = 0
            for record in records:
                stream = io.BytesIO()
                image = open_rgb(world / "data" / record.path)
                corrupt(image, name, row["strength"], record.sha256).save(stream, "PNG")
                scores = predictor.score([predictor.pixels(stream.getvalue())])
                right += predictor.top(scores.probabilities[0], 1)[0][0] == record.label
            assert row["accuracy"] == right / 18, (name, row)
            assert row["accuracy_interval"] == list(wilson_interval(right, 18))
            cells.append(row["accuracy"])
        assert found["corruptions"][name]["accuracy"] == pytest.approx(np.mean(cells[-len(STRENGTHS) :]))
    assert found["robustness_accuracy"] == pytest.approx(np.mean(cells))


@pytest.mark.slow
def test_a_worse_model_is_less_accurate_on_corrupted_images_too(world: Path, tmp_path: Path) -> None:
    records = read_manifest(world / "data").of_split("test")
    swapped = measure_robustness(make_bundle(tmp_path / "swapped", swap=True), world / "data", records)
    right = measure_robustness(world / "bundle", world / "data", records)
    assert swapped["robustness_accuracy"] < 0.5 < 0.8 < right["robustness_accuracy"]


@pytest.mark.slow
def test_the_report_and_the_run_show_it_where_it_was_measured(world: Path, tmp_path: Path) -> None:
    plain = evaluate(world / "bundle", world / "data", tmp_path / "report")
    assert "robustness" not in plain.metrics
    assert "robustness_accuracy" not in headline(plain.metrics)
    assert "Corrupted images" not in (tmp_path / "report" / "report.html").read_text()
    found = evaluate(world / "bundle", world / "data", tmp_path / "report", robustness=True)
    robustness = found.metrics["robustness"]
    assert headline(found.metrics)["robustness_accuracy"] == robustness["robustness_accuracy"]
    figure = (tmp_path / "report" / "robustness.svg").read_text()
    assert all(f">{name}<" in figure for name in CORRUPTIONS)
    write_verdict(decide(found, None, LENIENT), found)
    page = (tmp_path / "report" / "report.html").read_text()
    assert page.count("data:image/svg+xml;base64,") == 5
    assert f"The mean over all is {robustness['robustness_accuracy']:.2%}" in page
    low, high = robustness["corruptions"]["noise"]["strengths"][4]["accuracy_interval"]
    assert f"({low:.1%} to {high:.1%})</td>" in page


@pytest.mark.slow
def test_the_gate_holds_a_floor_and_refuses_to_judge_what_was_not_measured(world: Path, tmp_path: Path) -> None:
    plain = evaluate(world / "bundle", world / "data", tmp_path / "plain")
    measured = evaluate(world / "bundle", world / "data", tmp_path / "measured", robustness=True)
    reached = measured.metrics["robustness"]["robustness_accuracy"]

    def with_floor(floor: float | None) -> Gate:
        return LENIENT.model_copy(update={"min_robustness_accuracy": floor})

    assert decide(plain, None, with_floor(None)).decision == "promote"
    assert decide(measured, None, with_floor(reached)).decision == "promote"
    low = measured.metrics | {"robustness": measured.metrics["robustness"] | {"robustness_accuracy": 0.5}}
    verdict = decide(type(measured)(measured.folder, low, measured.predictions), None, with_floor(0.51))
    failed = [reason.message for reason in verdict.reasons if reason.passed is False]
    assert verdict.decision == "reject"
    assert failed == ["accuracy on corrupted images 0.5000 is below the floor of 0.51"]
    with pytest.raises(DataError, match=r"gate\.min_robustness_accuracy sets a floor") as caught:
        decide(plain, None, with_floor(0.1))
    assert "mlops evaluate --robustness" in caught.value.hint
    assert not (tmp_path / "plain" / "verdict.json").exists()


@pytest.mark.slow
def test_the_command_measures_it_when_told_to_or_when_the_workload_has_a_floor(world: Path, tmp_path: Path) -> None:
    def run(*words: str) -> str:
        out = str(tmp_path / "report")
        words = ("evaluate", "--bundle", str(world / "bundle"), "--data", str(world / "data"), "--out", out, *words)
        done = CliRunner().invoke(app, words)
        assert done.exit_code == 0, done.output
        return done.output

    workload = json.dumps({"name": "colours", "gate": {"min_robustness_accuracy": 0.5}})
    shown = run("--robustness")
    found = read_evaluation(tmp_path / "report").metrics["robustness"]
    assert f"accuracy on corrupted images {found['robustness_accuracy']:.4f}" in shown
    assert all(name in shown for name in (*CORRUPTIONS, "strength 5"))
    for words, measured in (
        (("--workload", workload), True),
        (("--workload", workload, "--no-robustness"), False),
    ):
        run(*words)
        assert ("robustness" in read_evaluation(tmp_path / "report").metrics) is measured, words
