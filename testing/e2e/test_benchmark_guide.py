"""The guide to benchmarks, executed as it stands; the environment makes the training short, nothing else differs."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from testing.support.jobs import until
from testing.support.journey import QUICK, Journey

ROOT = Path(__file__).resolve().parents[2]
GUIDE = (ROOT / "docs" / "how_to" / "benchmark.md").read_text()

SHORT = {
    "MLOPS_TRAINING__EPOCHS": "1",
    "MLOPS_DATA__SPLIT__TRAIN": "0.1",
    "MLOPS_DATA__SPLIT__VAL": "0.1",
    "MLOPS_DATA__SPLIT__TEST": "0.8",
}

pytestmark = pytest.mark.slow


@pytest.mark.timeout(600)
def test_commands_of_the_guide(tmp_path: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "MLOPS_HOME"} | QUICK
    environment |= SHORT
    environment |= {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    (program,) = re.findall(r"```python\n# mine.py\n(.*?)```", GUIDE, re.DOTALL)
    (tmp_path / "mine.py").write_text(program)
    ran = []
    for block in re.findall(r"```bash\n(.*?)```", GUIDE, re.DOTALL):
        ran.append(
            subprocess.run(
                ["bash", "-euc", block], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
            )
        )
        assert ran[-1].returncode == 0, f"{block}\n{ran[-1].stdout}\n{ran[-1].stderr}"
    first, *_, shown = (done.stdout for done in ran if "accuracy" in done.stdout)
    assert re.findall(r"^[a-z-]+", first, re.MULTILINE)[1:] != []
    assert {"from-scratch", "knn", "linear-probe", "ours"} <= set(re.findall(r"^[a-z-]+", first, re.MULTILINE))
    assert "mean-colour" in shown
    assert (tmp_path / "outputs" / "benchmark.html").is_file()


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
