"""Ctrl-C in the middle of the demo, and the same command once more."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from testing.support.journey import Journey

pytestmark = pytest.mark.slow


def test_interrupted_demo_goes_on(tmp_path: Path) -> None:
    """Ctrl-C in the middle of training ends with 130, leaves no bundle, and the same command resumes at its last epoch."""
    journey = Journey(tmp_path)
    long = {"MLOPS_TRAINING__EPOCHS": "24", "MLOPS_TRAINING__EARLY_STOPPING_PATIENCE": "24"}
    process = subprocess.Popen(
        [sys.executable, "-m", "vision_mlops", "demo", "--workload", "textile", "--images", "my photos"],
        cwd=tmp_path, env={**journey.environment, **long}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    steps = tmp_path / "outputs" / "cache" / "steps"
    deadline = time.monotonic() + 120
    while not any(steps.glob("*/outputs/checkpoints/bundle.training/checkpoints/last.ckpt")):
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "to continue, run the same command again, or: mlops job resume train-" in errors
    assert "Traceback" not in errors
    assert not (tmp_path / "outputs" / "bundles").exists()
    journey.environment |= long
    again = journey.run("demo", "--workload", "textile", "--images", "my photos")
    assert "train | continuing the interrupted training" in again.stderr
    assert "epoch 1 of 24" not in again.stderr
    assert "1 of 4 steps reused" in again.stderr
    assert (tmp_path / "outputs" / "bundles" / "my-photos" / "bundle.json").is_file()
