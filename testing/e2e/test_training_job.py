"""Training as a step of a local job, through the shipped component: with two processes, and after an interruption."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from testing.support.jobs import pipeline, resume, run, state, statuses, until, write
from testing.support.prepared_data import make_prepared

from vision_mlops.cli.jobs.step_dependencies import dependencies
from vision_mlops.core import paths
from vision_mlops.jobs.pipelines import PIPELINES
from vision_mlops.model.predictor import Predictor
from vision_mlops.tracking import mlflow_runs

pytestmark = pytest.mark.slow

WORKLOAD = {
    "name": "tiny",
    "title": "Tiny",
    "model": {"backbone": "test_resnet", "pretrained": False, "image_size": 32, "frozen_stages": 0},
    "training": {"epochs": 2, "batch_size": 8, "accelerator": "cpu"},
}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The shipped components beside prepared images."""
    make_prepared(tmp_path / "data")
    shutil.copytree(PIPELINES / "components", tmp_path / "components")
    return tmp_path


def job(project: Path, processes: int, nodes: int = 1, **inputs: Any) -> Path:
    step = {
        "resources": {"instance_count": "${{parent.inputs.nodes}}"},
        "component": "./components/train.yml",
        "distribution": {"type": "pytorch", "process_count_per_instance": "${{parent.inputs.processes}}"},
        "inputs": {
            "data": {"type": "uri_folder", "path": "./data"},
            "workload": "${{parent.inputs.workload}}", **inputs,
        },
        "environment_variables": {"OMP_NUM_THREADS": "1"},
        "outputs": {"bundle": "${{parent.outputs.bundle}}"},
    }  # fmt: skip
    content = pipeline(
        {"train": step},
        inputs={"workload": json.dumps(WORKLOAD), "processes": processes, "nodes": nodes},
        outputs={"bundle": {"type": "uri_folder"}},
    )
    return write(project / "job.yml", content)


# Two processes and two epochs are four steps, of which a quarter is the rise of the learning rate: one.
def test_two_processes_train_one_bundle(project: Path, store: Path) -> None:
    ended = run(job(project, 2), name="job")
    assert statuses(ended) == {"train": "Completed"}, ended.failures
    folder = Path(ended.state.steps["train"].folder)
    assert sorted(path.name for path in folder.glob("*.log")) == [
        "stderr.log", "stderr.rank1.log", "stdout.log", "stdout.rank1.log"]  # fmt: skip
    assert len(Predictor(Path(ended.state.outputs["bundle"])).classes) == 3
    trained = mlflow_runs.client().get_run(ended.state.steps["train"].run_id)
    assert trained.info.status == "FINISHED"
    assert trained.data.tags["mlflow.parentRunId"] == ended.state.run_id
    assert "val_accuracy" in trained.data.metrics
    assert statuses(run(project / "job.yml")) == {"train": "Reused"}
    assert statuses(run(project / "job.yml", "inputs.processes=1")) == {"train": "Completed"}


def test_two_nodes_of_two_processes_train_one_bundle(project: Path, store: Path) -> None:
    """The rendezvous of four processes as on Azure ML, with gloo on this machine's processors."""
    file = job(project, 2, nodes=2)
    ended = run(file, name="job")
    assert statuses(ended) == {"train": "Completed"}, ended.failures
    folder = Path(ended.state.steps["train"].folder)
    assert len(list(folder.glob("stdout*.log"))) == 4
    assert len(Predictor(Path(ended.state.outputs["bundle"])).classes) == 3
    trained = mlflow_runs.client().get_run(ended.state.steps["train"].run_id)
    assert trained.info.status == "FINISHED"
    assert "val_accuracy" in trained.data.metrics


def test_an_interrupted_training_goes_on_from_its_checkpoint(project: Path, store: Path) -> None:
    file = job(project, 1, epochs=60)
    process = subprocess.Popen(
        [sys.executable, "-m", "vision_mlops", "job", "run", str(file), "--name", "job"],
        env=os.environ, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    # Lightning writes best.ckpt before last.ckpt, and only the latter can be gone on from.
    until(lambda: list((paths.home() / "cache" / "steps").rglob("last.ckpt")), 120)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    assert state("job")["status"] == "Interrupted"
    kept = list((paths.home() / "cache" / "steps").rglob("last.ckpt"))
    assert kept, "the checkpoint stays beside the output that was not written"
    ended = resume("job", dependencies=dependencies())  # as the command line resumes it
    assert statuses(ended) == {"train": "Completed"}, ended.failures
    log = Path(ended.state.steps["train"].folder) / "stderr.log"
    assert log.read_text().count("continuing the interrupted training") == 1
    assert not list((paths.home() / "cache" / "steps").rglob("*.ckpt"))
