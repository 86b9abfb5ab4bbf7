"""A user's way through all commands, each in a process of its own, on images that the test draws."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from testing.support.journey import LABELS, Journey

from vision_mlops.cli.jobs.training_pipeline import PIPELINE
from vision_mlops.serving.launch import running_server

pytestmark = pytest.mark.slow
PHOTOS = ("--workload", "textile", "--images", "my photos")


@pytest.fixture(scope="module")
def journey(tmp_path_factory: pytest.TempPathFactory) -> Journey:
    return Journey(tmp_path_factory.mktemp("journey"))


@pytest.fixture(scope="module", autouse=True)
def first(journey: Journey) -> subprocess.CompletedProcess[str]:
    """The demo has run once on the pictures; what it printed."""
    return journey.run("demo", *PHOTOS)


STEPS = ("prepare", "train", "evaluate", "gate_and_register")


def test_demo_runs_the_pipeline_and_serves_samples(first: subprocess.CompletedProcess[str]) -> None:
    done = [line.split()[1] for line in first.stderr.splitlines() if line.startswith("✓")]
    assert done == [f"{step}:" for step in STEPS]
    assert "verdict: promote" in first.stdout
    assert "registered my-photos:1 (@champion, verdict promote)" in first.stderr
    assert "$ mlops serve my-photos@champion --port" in first.stderr
    for label in LABELS:
        assert f"test/{label}/" in first.stdout
    assert "my photos version 1 is ready at http://127.0.0.1:" in first.stderr
    assert first.stderr.rstrip().splitlines()[-1] == "Serve it again with: mlops serve my-photos@champion --port 8000"


def written(journey: Journey) -> dict[Path, int]:
    """When each file was written, but for what is remembered of the registry: each run of a job changes its database."""
    folders = [journey.folder / "outputs" / name for name in ("bundles", "data", "models")]
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    return {path: path.stat().st_mtime_ns for path in files if path.name != ".registry.json"}


def test_demo_again_reuses_everything(journey: Journey) -> None:
    before = written(journey)
    again = journey.run("demo", *PHOTOS)
    assert "4 of 4 steps reused" in again.stderr
    assert "verdict: promote" in again.stdout
    assert written(journey) == before


def test_demo_on_a_terminal_ends_its_server_at_sigterm(journey: Journey) -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "vision_mlops", "demo", *PHOTOS, "--port", "0"]
    process = subprocess.Popen(
        command, cwd=journey.folder, env=journey.environment, stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    shown = b""
    try:
        while b"Ctrl-C stops the server" not in shown:
            shown += os.read(ours, 4096)
        url = re.findall(rb"http://127.0.0.1:[0-9]+", shown)[-1].decode()
        with urllib.request.urlopen(f"{url}/health/ready") as response:
            assert response.status == 200
        process.terminate()
        assert process.wait(30) == 0
        with pytest.raises(urllib.error.URLError, match="refused"):
            urllib.request.urlopen(f"{url}/health/ready")
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def test_another_threshold_runs_the_gate_alone(journey: Journey) -> None:
    done = journey.run("run", *PHOTOS, "--set", "gate.min_accuracy=0.5")
    assert "3 of 4 steps reused" in done.stderr
    assert "✓ gate_and_register" in done.stderr
    assert "the candidate is identical to the champion" in done.stderr


def test_a_floor_for_corrupted_images_evaluates_again_and_another_one_does_not(journey: Journey) -> None:
    done = journey.run("run", *PHOTOS, "--set", "gate.min_robustness_accuracy=0.1")
    assert "2 of 4 steps reused" in done.stderr
    verdict = json.loads((journey.folder / "outputs" / "verdicts" / "my-photos.json").read_text())
    (reason,) = (each for each in verdict["reasons"] if each["check"] == "accuracy on corrupted images")
    assert reason["passed"]
    again = journey.run("run", *PHOTOS, "--set", "gate.min_robustness_accuracy=0.05")
    assert "3 of 4 steps reused" in again.stderr
    gate = ("gate", "--workload", "textile", "--out", "floor.json", "--fail-on", "reject", "--candidate")
    failed = journey.run(*gate, "outputs/reports/my-photos", "--set", "gate.min_robustness_accuracy=1.0", code=1)
    assert "FAIL  accuracy on corrupted images" in failed.stdout
    report = ("evaluate", "--bundle", "outputs/bundles/my-photos", "--data", "outputs/data/my-photos")
    journey.run(*report, "--out", "plain")
    refused = journey.run(*gate, "plain", "--set", "gate.min_robustness_accuracy=0.1", code=2)
    assert "run `mlops evaluate --robustness` first" in refused.stderr


def test_a_copy_of_the_pipeline_reuses_what_the_shipped_one_did(journey: Journey) -> None:
    """Steps are known by what they do, not by where their definitions lie."""
    own = journey.folder / "pipelines"
    own.mkdir()
    shutil.copy(PIPELINE, own / "mine.yml")
    shutil.copytree(PIPELINE.parent / "components", own / "components")
    done = journey.run("run", "--pipeline", "pipelines/mine.yml", *PHOTOS)
    assert "4 of 4 steps reused" in done.stderr
    assert "verdict: promote" in done.stdout


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
    done = journey.run("demo", *PHOTOS, *weak)
    assert "verdict: reject" in done.stdout
    assert "registered my-photos:2 (verdict reject)" in done.stderr
    assert "registered: my-photos:2; my-photos@champion stays my-photos:1\n" in done.stdout
    again = journey.run("run", *PHOTOS, *weak, code=1)
    assert "4 of 4 steps reused" in again.stderr
    assert again.stdout.endswith("verdict: reject\nregistered: my-photos:2; my-photos@champion stays my-photos:1\n")
    image = "my photos/sky/Bild 3.PNG"
    assert "sky" in journey.run("predict", "my-photos@champion", image, "--top-k", "1").stdout
    rejected = journey.run("predict", "outputs/bundles/my-photos", image).stderr
    assert "is my-photos:2, which is not the champion and was judged 'reject' by the gate" in rejected
    assert "compared with the champion my-photos:1" in done.stderr
    assert "my photos version 1 is ready" in done.stderr
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
