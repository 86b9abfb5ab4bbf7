"""A user's way through all commands, each in a process of its own, on images that the test draws."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vision_mlops.deployment.local import running_server

pytestmark = pytest.mark.slow

QUICK = {
    "MLOPS_MODEL__BACKBONE": "test_resnet",
    "MLOPS_MODEL__PRETRAINED": "false",
    "MLOPS_MODEL__IMAGE_SIZE": "32",
    "MLOPS_MODEL__FROZEN_STAGES": "0",
    "MLOPS_TRAINING__EPOCHS": "6",
    "MLOPS_TRAINING__BATCH_SIZE": "8",
    "MLOPS_GATE__MAX_CALIBRATION_ERROR": "0.5",
}
LABELS = {"dark wood": (60, 30, 20), "grün": (60, 160, 60), "sky": (120, 170, 230)}


class Journey:
    """A working directory with pictures, and the command line in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {key: value for key, value in os.environ.items() if key != "MLOPS_HOME"} | QUICK
        generator = np.random.default_rng(0)
        for label, colour in LABELS.items():
            place = folder / "my photos" / label
            place.mkdir(parents=True)
            for number in range(24):
                noise = np.clip(np.array(colour) + generator.normal(0, 25, (40, 48, 3)), 0, 255).astype(np.uint8)
                Image.fromarray(noise).save(place / f"Bild {number}.PNG")

    def run(self, *words: str, code: int = 0, **environment: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "vision_mlops", *words]
        done = subprocess.run(
            command,
            cwd=self.folder,
            env={**self.environment, **environment},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, f"{words}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr
        return done

    def json(self, *words: str) -> Any:
        return json.loads(self.run(*words, "--json").stdout)


@pytest.fixture(scope="module")
def journey(tmp_path_factory: pytest.TempPathFactory) -> Journey:
    return Journey(tmp_path_factory.mktemp("journey"))


@pytest.fixture(scope="module", autouse=True)
def first(journey: Journey) -> subprocess.CompletedProcess[str]:
    """The demo has run once on the pictures; what it printed."""
    return journey.run("demo", "--images", "my photos")


STEPS = ("prepare", "train", "evaluate", "gate_and_register")


def test_demo_runs_the_pipeline_and_serves_samples(first: subprocess.CompletedProcess[str]) -> None:
    done = [line.split()[1] for line in first.stderr.splitlines() if line.startswith("✓")]
    assert done == [f"{step}:" for step in STEPS]
    assert "verdict: promote" in first.stdout
    assert "registered my-photos:1 (@champion, verdict promote)" in first.stderr
    assert "$ mlops serve outputs/models/" in first.stderr
    for label in LABELS:
        assert f"test/{label}/" in first.stdout
    assert "my photos version 1 answers at http://127.0.0.1:" in first.stderr
    assert first.stderr.rstrip().splitlines()[-1].startswith("Serve it again with: mlops serve outputs/")


def test_demo_again_reuses_everything(journey: Journey) -> None:
    folders = [journey.folder / "outputs" / name for name in ("bundles", "data", "models")]
    before = {path: path.stat().st_mtime_ns for folder in folders for path in folder.rglob("*")}
    again = journey.run("demo", "--images", "my photos")
    assert "4 of 4 steps reused" in again.stderr
    assert "verdict: promote" in again.stdout
    assert {path: path.stat().st_mtime_ns for folder in folders for path in folder.rglob("*")} == before


def test_another_threshold_runs_the_gate_alone(journey: Journey) -> None:
    done = journey.run("run", "--workload", "textile", "--images", "my photos", "--set", "gate.min_accuracy=0.5")
    assert "3 of 4 steps reused" in done.stderr
    assert "✓ gate_and_register" in done.stderr
    assert "the candidate is identical to the champion" in done.stderr


def test_jobs_can_be_looked_at(journey: Journey) -> None:
    jobs = journey.json("job", "list")
    assert [job["status"] for job in jobs] == ["Completed"] * len(jobs)
    logs = journey.run("job", "logs", jobs[-1]["name"], "train").stdout
    assert "epoch 6 of 6: train loss" in logs
    assert (journey.folder / "outputs" / "reports" / "my-photos" / "report.html").read_text().count("promote")


def test_models_commands(journey: Journey) -> None:
    assert journey.json("models", "list")[0]["name"] == "my-photos"
    version = journey.json("models", "show", "my-photos@champion")
    assert version["verdict"] == "promote"
    assert version["metrics"]["accuracy"] >= 0.9
    chain = journey.json("models", "explain", "my-photos@champion")["chain"]
    assert [link["step"] for link in chain] == ["data", "run", "bundle", "evaluation", "verdict", "registry"]
    assert chain[0]["facts"]["classes"] == dict.fromkeys(LABELS, 24)
    assert chain[1]["facts"]["status"] == "FINISHED"
    assert "my photos" in chain[0]["summary"]
    rows = journey.json("models", "compare", "my-photos:1", "my-photos@champion")["metrics"]
    assert all(row["difference"] == 0 for row in rows)
    journey.run("models", "download", "my-photos@champion", "--out", "copy")
    image = "my photos/sky/Bild 3.PNG"
    assert "sky" in journey.run("predict", "copy", image, "--explain", "why.png").stdout
    assert journey.run("models", "show", "my-photo", code=2).stderr.count("did you mean 'my-photos'?") == 1


def test_a_worse_candidate_is_rejected_and_the_champion_stays(journey: Journey) -> None:
    """One epoch at a rate of almost nothing learns nothing; the demo then keeps serving the champion."""
    weak = ["--set", "training.epochs=1", "--set", "training.learning_rate=1e-9"]
    done = journey.run("demo", "--images", "my photos", *weak)
    assert "verdict: reject" in done.stdout
    assert "registered my-photos:2 (verdict reject)" in done.stderr
    assert "compared with the champion my-photos:1" in done.stderr
    assert "my photos version 1 answers" in done.stderr
    gate = ["gate", "--candidate", "outputs/reports/my-photos"]
    gate += ["--against", "my-photos", "--data", "outputs/data/my-photos"]
    assert "FAIL" in journey.run(*gate, "--fail-on", "reject", code=1).stdout
    refused = journey.run("models", "promote", "my-photos:2", code=2)
    assert "its verdict is reject" in refused.stderr


def test_served_over_http_with_a_key(journey: Journey, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLOPS_SCORING_KEY", "placeholder-key")
    picture = (journey.folder / "my photos" / "grün" / "Bild 1.PNG").read_bytes()
    bundle = Path(journey.json("models", "show", "my-photos@champion")["source"])
    with running_server(bundle, name="my-photos", version="1") as url:
        request = urllib.request.Request(f"{url}/score?explain=true", picture, {"Content-Type": "image/png"})
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(request)
        assert refused.value.code == 401
        refused.value.close()
        request.add_header("X-Api-Key", "placeholder-key")
        with urllib.request.urlopen(request) as response:
            answer = json.load(response)
    assert answer["predictions"][0]["label"] == "grün"
    assert answer["model"]["name"] == "my-photos"
    assert answer["heat_map"]
    refused_host = journey.run("serve", str(bundle), "--host", "0.0.0.0", "--port", "0", code=2)
    assert "set MLOPS_SCORING_KEY" in refused_host.stderr


def test_interrupted_demo_goes_on(tmp_path: Path) -> None:
    """Ctrl-C in the middle of training ends with 130, leaves no bundle, and the same command resumes at its last epoch."""
    journey = Journey(tmp_path)
    long = {"MLOPS_TRAINING__EPOCHS": "40", "MLOPS_TRAINING__EARLY_STOPPING_PATIENCE": "40"}
    process = subprocess.Popen(
        [sys.executable, "-m", "vision_mlops", "demo", "--images", "my photos"],
        cwd=tmp_path, env={**journey.environment, **long}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    steps = tmp_path / "outputs" / "cache" / "steps"
    deadline = time.monotonic() + 120
    while not any(steps.glob("*/outputs/.bundle.training/checkpoints/last.ckpt")):
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "it goes on with: mlops job resume train-" in errors
    assert "Traceback" not in errors
    assert not (tmp_path / "outputs" / "bundles").exists()
    journey.environment |= long
    again = journey.run("demo", "--images", "my photos")
    assert "train | going on with the training that was interrupted" in again.stderr
    assert "epoch 1 of 40" not in again.stderr
    assert "1 of 4 steps reused" in again.stderr
    assert (tmp_path / "outputs" / "bundles" / "my-photos" / "bundle.json").is_file()
