"""A spot node is taken away in the middle of a training on Azure: the step, started again, goes on from its checkpoint."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file
from testing.support.jobs import pipeline, write
from testing.support.places import Place
from testing.support.prepared_data import make_prepared
from torch.testing import assert_close

from azureml_emulator.jobs.job_executor import CommandExecutor
from azureml_emulator.rest.rest_calls import ServiceRefusalError
from vision_mlops.jobs.azureml import azure_jobs
from vision_mlops.jobs.pipelines import PIPELINES
from vision_mlops.model.bundle import WEIGHTS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

EPOCHS = 15
WORKLOAD = {
    "name": "tiny",
    "title": "Tiny",
    "model": {"backbone": "test_resnet", "pretrained": False, "image_size": 32, "frozen_stages": 0},
    "training": {"epochs": EPOCHS, "batch_size": 8, "accelerator": "cpu", "early_stopping_patience": EPOCHS},
}


@pytest.fixture
def job(tmp_path: Path) -> Path:
    """A pipeline with the shipped component of training as its one step."""
    make_prepared(tmp_path / "data", train=16)
    shutil.copytree(PIPELINES / "components", tmp_path / "components")
    shutil.copytree(PIPELINES.parents[3] / "environments", tmp_path / "environments")
    step = {
        "component": "./components/train.yml",
        "inputs": {"data": {"type": "uri_folder", "path": "./data"}, "workload": "${{parent.inputs.workload}}"},
        "environment_variables": {"OMP_NUM_THREADS": "1"},
        "environment": {"image": "python:3.11"},
        "outputs": {"bundle": "${{parent.outputs.bundle}}"},
    }
    content = pipeline(
        {"train": step},
        inputs={"workload": json.dumps(WORKLOAD)},
        outputs={"bundle": {"type": "uri_folder"}},
        settings={"default_compute": "azureml:cpu-cluster"},
    )
    return write(tmp_path / "job.yml", content)


def test_a_training_survives_its_node(place: Place, job: Path, tmp_path: Path) -> None:
    cloud = place.loopback
    cloud.executor = CommandExecutor()
    name = azure_jobs.submit(job, (), place.settings, client=place.client).name
    record = cloud.jobs.find(name)
    deadline = time.monotonic() + 400
    while not (found := list((cloud.folder / "home").rglob("checkpoints/*.training/checkpoints/last.ckpt"))):
        assert time.monotonic() < deadline, record.state
        assert not record.finished, record.message
        time.sleep(0.05)
    cloud.jobs.preempt(name)
    record.wait(500)
    assert record.status == "Completed", record.message
    assert not found[0].exists()
    log = record.state.steps["train"].logs["user_logs/std_log.txt"].read_text()
    assert log.count("continuing the interrupted training") == 1
    assert log.count("epoch 1 of") == 1, "the first epoch was not trained again"
    assert f"epoch {EPOCHS} of" in log
    with pytest.raises(ServiceRefusalError, match="is not running"):
        cloud.jobs.preempt(name)

    azure_jobs.download(place.client, name, ["bundle"], tmp_path / "there")
    line = [
        sys.executable,
        "-m",
        "vision_mlops",
        "train",
        "--data",
        str(tmp_path / "data"),
        "--out",
        str(tmp_path / "here"),
    ]
    line += ["--workload", json.dumps(WORKLOAD), "--set", "training.precision=auto", "--set", "training.seed=0"]
    environment = {"OMP_NUM_THREADS": "1", "MLOPS_HOME": str(tmp_path / "home"), "PATH": "/usr/bin:/bin"}
    subprocess.run(line, check=True, capture_output=True, env=environment, timeout=500)
    whole, resumed = (load_file(folder / WEIGHTS) for folder in (tmp_path / "here", tmp_path / "there/bundle"))
    assert whole.keys() == resumed.keys()
    for key, weights in whole.items():
        assert_close(resumed[key], weights, msg=f"{key} is not what an uninterrupted training gives")
