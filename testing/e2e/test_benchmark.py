"""`mlops benchmark run` after an interruption, and after a training that it can take over."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from testing.support.jobs import until
from testing.support.journey import Journey

pytestmark = pytest.mark.slow


def test_after_a_kill_the_finished_contestants_stay(tmp_path: Path) -> None:
    journey = Journey(tmp_path)
    journey.environment["MLOPS_TRAINING__EPOCHS"] = "2"
    journey.run("new", "views", "--images", "my photos")
    words = ("benchmark", "run", "--workload", "views", "--with", "knn", "--with", "ours")
    folder = tmp_path / "outputs" / "benchmarks" / "views"
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "vision_mlops", *words],
            cwd=tmp_path,
            env=journey.environment,
            stdout=log,
            stderr=log,
        )
        try:
            until(lambda: "epoch 1 of" in (tmp_path / "log").read_text(), 120)
            process.send_signal(signal.SIGKILL)
        finally:
            process.kill()
            process.wait()
    assert (folder / "knn" / "result.json").is_file()
    assert not (folder / "ours").exists()
    assert list(folder.glob(".work/ours/*/begun.json"))
    again = journey.run(*words)
    assert again.stderr.count("unchanged: measured") == 1
    assert (folder / "ours" / "result.json").is_file()
    assert not list(folder.glob(".work/*/*"))


def test_ours_is_the_bundle_that_was_trained_just_so(tmp_path: Path) -> None:
    journey = Journey(tmp_path)
    journey.environment |= {
        "MLOPS_TRAINING__EPOCHS": "1",
        "MLOPS_GATE__MIN_ACCURACY": "0",
        "MLOPS_GATE__MIN_RECALL_PER_CLASS": "0",
        "MLOPS_GATE__MAX_CALIBRATION_ERROR": "1",
    }
    journey.run("new", "views", "--images", "my photos")
    journey.run("run", "--workload", "views")
    done = journey.run("benchmark", "run", "--workload", "views", "--with", "ours")
    assert "reusing the champion views:1" in done.stderr
    assert "epoch 1 of" not in done.stderr
    (row,) = journey.json("benchmark", "report", "--workload", "views")["contestants"]
    assert row["remark"] == "reused the champion views:1"
    assert row["training_seconds"] > 1
    anew = journey.run("benchmark", "run", "--workload", "views", "--with", "ours", "--again")
    assert "epoch 1 of 1" in anew.stderr
