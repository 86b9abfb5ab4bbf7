"""`mlops run --on azure`, and a published pipeline that is triggered: submitted with the SDK, and really run behind it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from testing.support.places import ENDPOINT, Place
from testing.support.quick_training import QUICK, changes, write_colours
from testing.support.run_services import run_services

from azureml_emulator.identity.sign_in_routes import by_secret
from azureml_emulator.jobs.job_executor import CommandExecutor
from vision_mlops.core.hashing import file_hash
from vision_mlops.data.folder_contents import describe
from vision_mlops.jobs.pipelines import PIPELINES

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

COMPONENT = PIPELINES / "train-component.yml"
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def really(place: Place) -> None:
    """Jobs of the loopback cloud really run."""
    if place.cloud is not None:
        place.cloud.executor = CommandExecutor()


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder of class folders; no name of it would please a shell."""
    return write_colours(tmp_path / "it's colours")


OWN_CODE = """
def darker(images):
    return images / 2

def right(labels, probabilities):
    return (probabilities.argmax(1) == labels).mean()
"""


def test_the_pipeline_of_a_workload_with_images_and_code_of_its_own(
    run: Run, place: Place, images: Path, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_code").mkdir()
    (tmp_path / "my_code" / "all.py").write_text(OWN_CODE)
    own = ("model.transform=my_code.all:darker", "evaluation.metrics=[my_code.all:right]", "gate.min_metrics.right=0.1")
    words = ("run", "--workload", "textile", "--images", str(images), "--on", "azure", *changes((*QUICK, *own)))
    code, out, err = run(*words, "--json")
    assert code == 0, err
    job: dict[str, Any] = json.loads(out)
    assert job["status"] == "Completed"
    assert job["tags"]["workload"] == "it-s-colours"
    outputs = {name: Path(path) for name, path in job["outputs"].items()}
    assert set(outputs) == {"data", "bundle", "report", "verdict"}
    assert all(path.is_relative_to(home / "azure") for path in outputs.values())
    bundle = json.loads((outputs["bundle"] / "bundle.json").read_text())
    assert bundle["name"] == "it-s-colours"
    assert bundle["own_code"] == {"my_code/all.py": file_hash(tmp_path / "my_code" / "all.py")}
    assert json.loads((outputs["report"] / "metrics.json").read_text())["metrics"].keys() == {"right"}
    assert json.loads(outputs["verdict"].read_text())["decision"] in ("promote", "reject", "inconclusive")
    assert "[train] epoch 4 of 4" in err, err
    if place.cloud is not None:
        uploads = place.count("/data/", "PUT")
        assert run(*words, "--no-wait")[0] == 0
        assert place.count("/data/", "PUT") == uploads, "the images were in the workspace"


def test_a_published_pipeline_is_triggered_and_tells_the_next_one_what_it_registered(
    run: Run, place: Place, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cloud = place.loopback
    addresses = ("AZURE_CLOUD", "AZURE_AUTHORITY_HOST", "REQUESTS_CA_BUNDLE")
    identity = {**by_secret(), **{name: os.environ[name] for name in addresses}}
    monkeypatch.setattr(cloud.jobs, "identity", {**identity, "AZURE_TOKEN_CREDENTIALS": "EnvironmentCredential"})
    code, _, err = run("pipeline", "publish", str(COMPONENT), "--endpoint", ENDPOINT, "--json")
    assert code == 0, err
    code, _, err = run("data", "register", str(images), "--name", "colours", "--on", "azure")
    assert code == 0, err
    code, _, err = run("data", "download", "--from", "azureml:colours@latest", "--out", str(tmp_path / "fetched"))
    assert code == 0, err
    assert describe(tmp_path / "fetched").fingerprint == describe(images).fingerprint
    monkeypatch.delenv("SYSTEM_ACCESSTOKEN", raising=False)
    quick = [word for change in (*QUICK, "name=triggered") for word in ("--set", change)]
    with run_services() as services:
        services.audience = "499b84ac-1321-427f-aa17-267ca6975798"  # Azure DevOps
        address = f"{services.url}/org/project/_apis/pipelines/7/runs"
        words = ("pipeline", "trigger", ENDPOINT, "--workload", "textile", "--images", "azureml:colours@latest", *quick)
        told = ("--job", "train-1", "--on-registered", address, "--tag", "reason=test")
        code, out, err = run(*words, *told, "--wait", "--json")
        assert code == 0, err
        assert services.started == [{"templateParameters": {"registered": "triggered:1"}}]
    job = json.loads(out)
    assert (job["name"], job["status"], job["tags"]["reason"]) == ("train-1", "Completed", "test")
    assert run(*words, *told)[0] == 2, "a job of that name is there already"
    assert run("job", "cancel", "train-1", "--on", "azure", "--if-running")[0] == 0
    assert run("job", "cancel", "train-2", "--on", "azure", "--if-running")[0] == 0
