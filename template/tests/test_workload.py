"""The workload trains, and its gate promotes only what it should."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from vision_mlops.config.workload import Workload
from vision_mlops.evaluation.evaluate import read_evaluation
from vision_mlops.evaluation.gate import decide, read_verdict
from vision_mlops.model.predictor import Predictor


def test_the_gate_requires_more_than_guessing(workload: Workload, handful: Path) -> None:
    classes = [folder for folder in handful.iterdir() if folder.is_dir()]
    assert workload.gate.min_accuracy > 1 / len(classes)


@pytest.mark.slow
def test_the_pipeline_makes_a_model_that_can_be_served(workload: Workload, trained: Path, handful: Path) -> None:
    predictor = Predictor(trained / "bundles" / workload.name)
    assert predictor.classes == sorted(folder.name for folder in handful.iterdir() if folder.is_dir())
    image = next(handful.rglob("*.jpg"))
    scores = predictor.score([predictor.pixels(image)])
    assert scores.probabilities.sum() == pytest.approx(1, abs=1e-3)
    assert read_verdict(trained / "verdicts" / f"{workload.name}.json")["decision"] == "promote"


@pytest.mark.slow
def test_the_gate_rejects_a_model_below_its_floor(workload: Workload, trained: Path) -> None:
    evaluation = read_evaluation(trained / "reports" / workload.name)
    worse = replace(evaluation, metrics={**evaluation.metrics, "accuracy": workload.gate.min_accuracy - 0.01})
    verdict = decide(worse, None, workload.gate)
    assert verdict.decision == "reject"
    assert next(reason for reason in verdict.reasons if reason.check == "accuracy").passed is False
