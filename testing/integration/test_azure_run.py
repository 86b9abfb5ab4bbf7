"""`mlops run --on azure`, and a published pipeline that is triggered: submitted with the SDK, and really run behind it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from testing.support.places import ENDPOINT, Place

from azureml_emulator.jobs.job_executor import CommandExecutor
from vision_mlops.cli.jobs.run import pipeline_changes, workload_for
from vision_mlops.jobs.pipelines import PIPELINES

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

COMPONENT = PIPELINES / "train-component.yml"
QUICK = (
    "model.backbone=test_resnet", "model.pretrained=false", "model.image_size=32", "model.frozen_stages=0",
    "training.epochs=4", "training.batch_size=8", "gate.max_calibration_error=0.9", "gate.min_accuracy=0.5",
    "gate.min_recall_per_class=0.0",
)  # fmt: skip
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def really(place: Place) -> None:
    """Jobs of the loopback cloud really run."""
    if place.cloud is not None:
        place.cloud.executor = CommandExecutor()


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder of class folders; no name of it would please a shell."""
    folder = tmp_path / "it's colours"
    generator = np.random.default_rng(0)
    for label, colour in {"red": (200, 40, 40), "blue": (40, 40, 200)}.items():
        (folder / label).mkdir(parents=True)
        for number in range(20):
            noise = np.clip(np.array(colour) + generator.normal(0, 20, (32, 32, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(noise).save(folder / label / f"{number}.png")
    return folder


def changes(items: tuple[str, ...]) -> list[str]:
    return [part for item in items for part in ("--set", item)]


def test_the_pipeline_of_a_workload_with_images_of_its_own(run: Run, place: Place, images: Path, home: Path) -> None:
    words = ("run", "--workload", "textile", "--images", str(images), "--on", "azure", *changes(QUICK))
    code, out, err = run(*words, "--json")
    assert code == 0, err
    job: dict[str, Any] = json.loads(out)
    assert job["status"] == "Completed"
    assert job["tags"]["workload"] == "it-s-colours"
    outputs = {name: Path(path) for name, path in job["outputs"].items()}
    assert set(outputs) == {"data", "bundle", "report", "verdict"}
    assert all(path.is_relative_to(home / "azure") for path in outputs.values())
    assert json.loads((outputs["bundle"] / "bundle.json").read_text())["name"] == "it-s-colours"
    assert json.loads(outputs["verdict"].read_text())["decision"] in ("promote", "reject", "inconclusive")
    assert "[train] epoch 4 of 4" in err, err
    if place.cloud is not None:
        uploads = place.count("/data/", "PUT")
        assert run(*words, "--no-wait")[0] == 0
        assert place.count("/data/", "PUT") == uploads, "the images were in the workspace"


def test_a_published_pipeline_is_triggered_with_a_workload(run: Run) -> None:
    code, _, err = run("pipeline", "publish", str(COMPONENT), "--endpoint", ENDPOINT, "--json")
    assert code == 0, err
    workload = workload_for("textile", None, [*QUICK, "name=triggered"])
    content = pipeline_changes(workload, None)[0].partition("=")[2]
    words = ["--input", f"workload={content}", "--input", "model_name=triggered", "--input", "fail_on=never"]
    code, out, err = run("pipeline", "trigger", ENDPOINT, *words, "--tag", "reason=test", "--wait", "--json")
    assert code == 0, err
    job = json.loads(out)
    assert (job["status"], job["tags"]["reason"]) == ("Completed", "test")
