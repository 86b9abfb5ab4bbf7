"""Sweeps as jobs of this machine: real trials that log to MLflow, the best one's outputs, and what is kept."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from testing.support.definitions import SCHEMA

from vision_mlops.jobs.local.engine.local_jobs import JobOptions, JobResult, resume_job, run_job
from vision_mlops.jobs.local.state.job_display import PlainDisplay
from vision_mlops.jobs.local.state.job_state import Status
from vision_mlops.tracking import mlflow_runs

pytestmark = pytest.mark.slow

FIT = """\
import os, pathlib, sys, time
from mlflow import MlflowClient
rate, kind, out = float(sys.argv[1]), sys.argv[2], pathlib.Path(sys.argv[3])
client, run = MlflowClient(), os.environ["MLFLOW_RUN_ID"]
for step in range(int(os.environ.get("STEPS", "2"))):
    client.log_metric(run, "score", rate + step / 100, step=step)
    time.sleep(float(os.environ.get("PAUSE", "0")))
(out / "rate.txt").write_text(f"{rate} {kind}")
"""
TRIAL = """\
  code: ./code
  command: python fit.py ${{search_space.rate}} ${{inputs.kind}} ${{outputs.model}}
  environment: azureml:env:1
"""
SWEEP = f"""\
$schema: {SCHEMA}/sweepJob.schema.json
type: sweep
trial:
{TRIAL}
inputs: {{kind: plain}}
outputs: {{model: {{type: uri_folder}}}}
search_space: {{rate: {{type: choice, values: [0.1, 0.9, 0.5]}}}}
sampling_algorithm: grid
objective: {{goal: maximize, primary_metric: score}}
limits: {{max_total_trials: 3, max_concurrent_trials: 2}}
"""
COMPONENT = f"""\
$schema: {SCHEMA}/commandComponent.schema.json
type: command
name: fit
version: 1
inputs:
  rate: {{type: number}}
  kind: {{type: string, default: component}}
outputs: {{model: {{type: uri_folder}}}}
code: ./code
environment: azureml:env:1
command: python fit.py ${{{{inputs.rate}}}} ${{{{inputs.kind}}}} ${{{{outputs.model}}}}
"""
PIPELINE = f"""\
$schema: {SCHEMA}/pipelineJob.schema.json
type: pipeline
outputs: {{text: {{type: uri_file}}}}
jobs:
  search:
    type: sweep
    trial: file:./fit.yml
    outputs: {{model: {{type: uri_folder}}}}
    search_space: {{rate: {{type: uniform, min_value: 0, max_value: 1}}}}
    sampling_algorithm: {{type: random, seed: 5}}
    objective: {{goal: minimize, primary_metric: score}}
    limits: {{max_total_trials: 2, max_concurrent_trials: 2}}
  use:
    command: cat ${{{{inputs.model}}}}/rate.txt > ${{{{outputs.text}}}}
    environment: azureml:env:1
    inputs: {{model: "${{{{parent.jobs.search.outputs.model}}}}"}}
    outputs: {{text: {{type: uri_file, path: "${{{{parent.outputs.text}}}}"}}}}
"""


@pytest.fixture
def project(tmp_path: Path, home: Path, store: object) -> Path:
    folder = tmp_path / "project"
    (folder / "code").mkdir(parents=True)
    files = {"code/fit.py": FIT, "sweep.yml": SWEEP, "fit.yml": COMPONENT, "pipeline.yml": PIPELINE}
    for name, text in files.items():
        (folder / name).write_text(text)
    return folder


def run(path: Path, *changes: str, **options: Any) -> tuple[JobResult, list[str]]:
    lines: list[str] = []
    return run_job(
        path, changes, options=JobOptions(jobs=2, display=PlainDisplay(write=lines.append), **options)
    ), lines


def trials(ended: JobResult) -> list[dict[str, Any]]:
    (step,) = (step for step in ended.state.steps.values() if step.details)
    return list(step.details["trials"])


def test_the_best_trial_becomes_the_output(project: Path) -> None:
    ended, lines = run(project / "sweep.yml")
    assert ended.state.status is Status.COMPLETED, lines
    assert Path(ended.state.outputs["model"], "rate.txt").read_text() == "0.9 plain"
    assert [(trial["values"]["rate"], trial["state"]) for trial in trials(ended)] == [
        (0.1, "Completed"), (0.9, "Completed"), (0.5, "Completed")
    ]  # fmt: skip
    step = ended.state.steps["sweep"]
    assert step.details["progress"] == "3 of 3 trials, best score 0.91"
    table = Path(step.folder) / "trials"
    assert {item.name for item in table.iterdir()} >= {"trials.csv", "trials.json", "trials.svg", "best.json"}
    assert not list((Path(ended.state.outputs["model"]).resolve().parent).glob(".sweep")), "only what was asked for"
    client = mlflow_runs.client()
    parent = client.get_run(step.run_id)
    assert parent.data.metrics["best_score"] == pytest.approx(0.91)
    children = client.search_runs(
        [parent.info.experiment_id], f"tags.`mlflow.parentRunId` = '{step.run_id}'", order_by=["params.rate"]
    )
    assert [child.data.params["rate"] for child in children] == ["0.1", "0.5", "0.9"]
    assert {child.info.status for child in children} == {"FINISHED"}
    again, _ = run(project / "sweep.yml")
    assert again.state.steps["sweep"].status is Status.REUSED
    more, _ = run(project / "sweep.yml", "search_space.rate.values=[0.1, 0.9]", "limits.max_total_trials=2")
    assert more.state.steps["sweep"].status is Status.COMPLETED, "another space is another sweep"


def test_a_sweep_step_with_a_component_feeds_the_next_step(project: Path) -> None:
    ended, lines = run(project / "pipeline.yml")
    assert ended.state.status is Status.COMPLETED, lines
    rates = [trial["values"]["rate"] for trial in trials(ended)]
    assert Path(ended.state.outputs["text"]).read_text() == f"{min(rates)} component"
    assert any(line.startswith("search | best: trial") for line in lines)


def test_hopeless_trials_are_given_up(project: Path) -> None:
    changes = ["early_termination={type: bandit, slack_amount: 0.2}", "limits.max_concurrent_trials=3"]
    steps = ["trial.environment_variables={STEPS: '12', PAUSE: '0.5'}"]
    lines: list[str] = []
    options = JobOptions(jobs=3, display=PlainDisplay(write=lines.append))
    ended = run_job(project / "sweep.yml", [*changes, *steps], options=options)
    assert ended.state.status is Status.COMPLETED, lines
    states = {trial["values"]["rate"]: trial["state"] for trial in trials(ended)}
    assert states == {0.9: "Completed", 0.5: "EarlyTerminated", 0.1: "EarlyTerminated"}
    assert all(trial["reports"] < 12 for trial in trials(ended) if trial["state"] == "EarlyTerminated")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("objective.primary_metric=accuracy", "no trial logged the primary metric 'accuracy'; they logged score"),
        ("trial.command=python none.py ${{search_space.rate}} ${{outputs.model}} ${{inputs.kind}}", "exit code 2"),
    ],
)
def test_a_sweep_without_a_best_trial_fails(project: Path, change: str, message: str) -> None:
    ended, lines = run(project / "sweep.yml", change)
    assert ended.state.status is Status.FAILED, lines
    assert message in ended.state.steps["sweep"].message
    assert ended.state.outputs == {}


def test_an_interrupted_sweep_keeps_its_finished_trials(project: Path, home: Path) -> None:
    words = [sys.executable, "-m", "vision_mlops", "job", "run", str(project / "sweep.yml"), "--name", "long"]
    words += ["--set", "limits.max_concurrent_trials=1", "--set", "trial.environment_variables={PAUSE: '0.8'}"]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    file = home / "jobs" / "long" / "state.json"

    def finished() -> int:
        details = json.loads(file.read_text())["steps"]["sweep"]["details"] if file.is_file() else {}
        return sum(trial["state"] == "Completed" for trial in details.get("trials", []))

    deadline = time.monotonic() + 60
    while finished() < 1:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=40)
    assert process.returncode == 130, errors
    before = finished()
    lines: list[str] = []
    ended = resume_job("long", options=JobOptions(display=PlainDisplay(write=lines.append)))
    assert ended.state.status is Status.COMPLETED, lines
    assert [trial["state"] for trial in trials(ended)] == ["Completed"] * 3
    client = mlflow_runs.client()
    found = [client.search_runs([str(item.experiment_id)], "tags.`mlops.trial` = '0'") for item in
             client.search_experiments()]  # fmt: skip
    assert before >= 1
    assert len([run for runs in found for run in runs]) == 1, "the first trial ran once"
