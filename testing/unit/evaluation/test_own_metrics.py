"""Metrics of a project's own: measured, shown, logged and judged like the others."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from testing.support.bundles import make_bundle
from testing.support.prepared_data import make_prepared

from vision_mlops.config.own_code import CodeReference
from vision_mlops.config.workload import Gate
from vision_mlops.core.errors import ConfigError, DataError
from vision_mlops.core.hashing import file_hash
from vision_mlops.evaluation.evaluate import evaluate, headline, read_evaluation
from vision_mlops.evaluation.gate import decide
from vision_mlops.evaluation.own_metrics import OwnMetrics

METRICS = """\
import numpy as np

def top_2(labels, probabilities):
    best = np.argsort(-probabilities, axis=1)[:, :2]
    return (best == labels[:, None]).any(axis=1).mean()

def writes(labels, probabilities):
    labels[:] = 0
    probabilities[:] = 0
    return 1

def words(labels, probabilities):
    return "0.5"

def nothing(labels, probabilities):
    return None

def rows(labels, probabilities):
    return probabilities

def lost(labels, probabilities):
    return np.nan

def divides(labels, probabilities):
    return 1 // 0

def one(labels):
    return 1

def random(labels, probabilities):
    return np.random.rand()

def state(labels, probabilities, calls=[]):
    calls.append(1)
    return 1 / len(calls)

def costs(labels, probabilities):
    assert np.allclose(probabilities.sum(axis=1), 1)
    return -(np.ones((3, 3)) - np.eye(3))[labels, probabilities.argmax(axis=1)].mean()

def lowest_precision(labels, probabilities):
    found = probabilities.argmax(axis=1)
    return min((labels[found == label] == label).mean() for label in range(probabilities.shape[1]))
"""
LABELS, PROBABILITIES = np.array([0, 2]), np.array([[0.2, 0.3, 0.5], [0.1, 0.2, 0.7]])


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "own_metrics.py").write_text(METRICS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    sys.modules.pop("own_metrics", None)


def own(*names: str) -> list[CodeReference]:
    return [CodeReference(f"own_metrics:{name}", "evaluation.metrics") for name in names]


def test_they_are_measured_on_numbers_that_they_cannot_change(project: Path) -> None:
    found = OwnMetrics(own("writes", "top_2")).measure(LABELS, PROBABILITIES)
    assert found["metrics"] == {"writes": 1.0, "top_2": 0.5}
    assert found["own_code"] == {"own_metrics.py": file_hash(project / "own_metrics.py")}
    assert PROBABILITIES.sum() == 2
    assert OwnMetrics([]).measure(LABELS, PROBABILITIES) == {}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("words", "returns '0.5'\n  -> return one finite number"),
        ("nothing", "returns None"),
        ("rows", "returns 'ndarray'"),
        ("lost", "returns nan"),
        ("divides", r"failed: own_metrics.py:\d+: ZeroDivisionError"),
        ("one", r"cannot be called as one\(labels, probabilities\)"),
    ],
)
def test_what_is_no_metric_is_refused(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=f"^evaluation.metrics: own_metrics:{name}.*{message}"):
        OwnMetrics(own(name)).measure(LABELS, PROBABILITIES)


@pytest.mark.parametrize("classes", [2, 3, 41])
def test_metrics_are_tried_on_right_and_wrong_predictions_of_each_class(classes: int) -> None:
    with warnings.catch_warnings(action="error"):  # such as of a mean of nothing
        OwnMetrics(own("top_2", "writes", "lowest_precision")).check(classes)


def test_the_trial_has_as_many_classes_as_the_images() -> None:
    OwnMetrics(own("costs")).check(3)
    with pytest.raises(
        ConfigError, match=r"costs failed: own_metrics.py:\d+: IndexError.* \(tried on 40 made-up labels of 4"
    ):
        OwnMetrics(own("costs")).check(4)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("rows", r"returns 'ndarray' \(tried on 42 made-up labels of 3 classes\)\n  -> return one finite number"),
        ("lost", "returns nan"),
        ("divides", r"failed: own_metrics.py:\d+: ZeroDivisionError"),
        ("random", "does not return the same for the same labels and probabilities twice, .*: it draws random numbers"),
        ("state", "twice, but 1 and 0.5: .*, or keeps a state"),
    ],
)
def test_the_trial_refuses_what_is_no_metric_or_random(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=f"^evaluation.metrics: own_metrics:{name}.*{message}"):
        OwnMetrics(own(name)).check(3)


@pytest.mark.slow
def test_an_evaluation_has_them_and_the_gate_holds_them_against_floors(tmp_path: Path) -> None:
    data, report = tmp_path / "data", tmp_path / "report"
    make_prepared(data, test=4)
    found = evaluate(make_bundle(tmp_path / "bundle"), data, report, own_metrics=own("top_2"))
    assert read_evaluation(report).metrics["metrics"] == {"top_2": 1.0}
    assert headline(found.metrics)["test_top_2"] == 1.0
    page = (report / "report.html").read_text()
    assert "<h2>Metrics of this project</h2>" in page
    assert "top_2" in page
    lenient = {"max_latency_ms": 1e6, "max_calibration_error": 1.0}
    assert decide(found, None, Gate(min_metrics={"top_2": 1.0}, **lenient)).decision == "promote"
    verdict = decide(found, None, Gate(min_metrics={"top_2": 1.1}, **lenient))
    assert verdict.decision == "reject"
    assert "top_2 1.0000 is below the floor of 1.1" in [reason.message for reason in verdict.reasons]
    with pytest.raises(DataError, match=r"has no metric 'top_3', for which gate.min_metrics sets a floor"):
        decide(found, None, Gate(min_metrics={"top_3": 0.1}))
    with pytest.raises(ConfigError, match="no 'top_3'"):
        evaluate(tmp_path / "bundle", data, tmp_path / "other", own_metrics=own("top_3"))
    assert not (tmp_path / "other").exists()
