"""The commands that talk to Azure, against an emulator of its own process: led there by variables alone, as users are."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from testing.support.azure_project import write_project
from testing.support.bundles import make_bundle
from testing.support.emulator_process import EmulatorProcess, emulator
from testing.support.quick_training import changes, write_colours

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
QUICK = ("--min-requests", "10", "--min-seconds", "0", "--steps", "50,100", "--probe-rate", "50")
Mlops = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmulatorProcess]:
    """The emulator."""
    with emulator(tmp_path_factory.mktemp("emulator") / "state") as found:
        yield found


@pytest.fixture
def run(running: EmulatorProcess, tmp_path: Path, home: Path) -> Mlops:
    """Run ``mlops`` with the emulator's variables in a folder of its own; it must succeed."""

    def call(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        own = {"MLOPS_HOME": str(home), "MLFLOW_DISABLE_TELEMETRY": "true", **variables}
        done = subprocess.run(
            [sys.executable, "-m", "vision_mlops", *words],
            capture_output=True, text=True, cwd=tmp_path, env={**running.environment, **own}, timeout=600,
        )  # fmt: skip
        assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
        return done

    return call


def test_a_pipeline_runs_and_brings_its_outputs_back(run: Mlops, tmp_path: Path, home: Path) -> None:
    project = write_project(tmp_path / "project")
    job = json.loads(run("job", "run", str(project / "pipeline.yml"), "--on", "azure", "--json").stdout)
    assert job["status"] == "Completed"
    (home / "results").parent.mkdir(parents=True, exist_ok=True)
    run("job", "download", job["name"], "--out", str(home / "results"))
    found = [path.read_text() for path in (home / "results").rglob("*") if path.is_file()]
    assert "one 2" in found


def test_the_training_pipeline_of_a_workload(run: Mlops, tmp_path: Path) -> None:
    images = str(write_colours(tmp_path / "colours"))
    words = ("run", "--workload", "textile", "--images", images, "--on", "azure", *changes(), "--json")
    job = json.loads(run(*words).stdout)
    assert job["status"] == "Completed"
    assert json.loads((Path(job["outputs"]["bundle"]) / "bundle.json").read_text())["name"] == "colours"


def test_a_published_pipeline_is_triggered(run: Mlops, tmp_path: Path) -> None:
    project = write_project(tmp_path / "project")
    published = json.loads(
        run("pipeline", "publish", str(project / "published.yml"), "--endpoint", "count-nightly", "--json").stdout
    )
    assert published["scoring_url"] == "https://count-nightly.westeurope.inference.ml.azure.com/jobs"
    images = str(project / "images")
    words = ("--input", f"images={images}", "--wait", "--json")
    assert json.loads(run("pipeline", "trigger", "count-nightly", *words).stdout)["status"] == "Completed"


def test_a_rollout_on_a_managed_endpoint(run: Mlops, tmp_path: Path) -> None:
    """Registered in the workspace, deployed, scored, rolled out: the models are small, the servers are real."""
    azure = {
        "MLOPS_REGISTRY": "azure",
        "MLOPS_AZURE_INFERENCING_IMAGE": "example.azurecr.io/vision-mlops-inferencing:1",
    }
    for number, size in ((1, 32), (2, 48)):
        bundle = make_bundle(tmp_path / str(number), image_size=size)
        words = ("models", "register", "--bundle", str(bundle), "--name", "shades")
        run(*words, *(("--promote",) if number == 1 else ()), **azure)
    run("deploy", "--to", "managed", "--model", "shades:1", **azure)
    image = next((tmp_path / "1").rglob("*.png"))
    tested = json.loads(run("endpoint", "test", "shades", "--image", str(image), "--json", **azure).stdout)
    assert tested[0]["status"] == 200
    run("rollout", "start", "shades", "-m", "shades:2", *QUICK, **azure)
    shown = json.loads(run("endpoint", "show", "shades", "--json", **azure).stdout)
    assert [(item["name"], item["traffic"]) for item in shown["deployments"]] == [("version-2", 100)]
