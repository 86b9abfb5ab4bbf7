"""What `mlops job prune` removes, and what it leaves."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from testing.support.definitions import SCHEMA

from vision_mlops.jobs.local.engine.local_jobs import JobOptions, run_job
from vision_mlops.jobs.local.engine.pruning import prune
from vision_mlops.jobs.local.state.job_display import PlainDisplay
from vision_mlops.jobs.local.state.job_state import JobFolder, Status, job_names

JOB = f"""\
$schema: {SCHEMA}/pipelineJob.schema.json
type: pipeline
inputs: {{word: one}}
outputs: {{text: {{type: uri_file}}}}
jobs:
  write:
    command: echo ${{{{inputs.word}}}} > ${{{{outputs.text}}}}
    environment: azureml:env:1
    inputs: {{word: "${{{{parent.inputs.word}}}}"}}
    outputs: {{text: {{type: uri_file, path: "${{{{parent.outputs.text}}}}"}}}}
"""


@pytest.fixture
def job(tmp_path: Path, home: Path, without_mlflow: None) -> Path:
    path = tmp_path / "job.yml"
    path.write_text(JOB)
    return path


def run(job: Path, name: str, *changes: str, force: bool = False) -> Status:
    options = JobOptions(display=PlainDisplay(quiet=True), force=force)
    return run_job(job, changes, name=name, options=options).state.steps["write"].status


def age(name: str, days: float) -> None:
    """Let a job, and what it wrote, have ended some days ago."""
    folder = JobFolder(name)
    state = folder.load()
    moment = time.time() - days * 86_400
    state.ended = time.strftime("%Y-%m-%dT%H:%M:%S.000+00:00", time.gmtime(moment))
    folder.save(state)
    for text in state.steps["write"].outputs.values():
        os.utime(Path(text).parents[1] / "result.json", (moment, moment))


def test_old_jobs_go_with_their_results(job: Path, home: Path) -> None:
    run(job, "old")
    run(job, "new", "inputs.word=two")
    age("old", 40)
    told = prune(30, dry_run=True)
    assert (told.jobs, told.results) == (["old"], 1)
    assert told.size > 100
    assert sorted(job_names()) == ["new", "old"], "a dry run removes nothing"
    assert prune(30) == told
    assert job_names() == ["new"]
    assert run(job, "again", "inputs.word=two") is Status.REUSED
    assert run(job, "once-more") is Status.COMPLETED, "its result is gone"


def test_a_result_that_a_newer_job_shows_stays(job: Path) -> None:
    run(job, "old")
    assert run(job, "new") is Status.REUSED
    age("old", 40)
    age("new", 40)
    folder = JobFolder("new")
    state = folder.load()
    state.ended = state.created
    folder.save(state)
    assert prune(30).jobs == ["old"]
    assert Path(folder.load().outputs["text"]).read_text() == "one\n"
    assert run(job, "next") is Status.REUSED


def test_a_job_that_holds_what_another_shows_stays(job: Path) -> None:
    run(job, "first")
    run(job, "forced", force=True)
    assert run(job, "new") is Status.REUSED
    shown = JobFolder("new").load().steps["write"].outputs["text"]
    age("first", 40)
    age("forced", 40)
    assert prune(30).jobs == ["first"], "forced has what new shows"
    assert Path(shown).read_text() == "one\n"
    assert run(job, "next") is Status.REUSED
    assert prune(0).jobs == ["forced", "new", "next"]
    assert job_names() == []


@pytest.mark.slow
def test_a_running_job_stays(job: Path, home: Path) -> None:
    job.write_text(JOB.replace("echo", "sleep 20; echo"))
    words = [sys.executable, "-m", "vision_mlops", "job", "run", str(job), "--name", "busy"]
    process = subprocess.Popen(words, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 30
        while '"Running"' not in _text(home / "jobs" / "busy" / "state.json"):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        done = prune(0)
        assert (done.jobs, done.results) == ([], 0)
        assert process.poll() is None
    finally:
        process.terminate()
        process.wait(30)


@pytest.mark.slow
def test_the_command_tells(job: Path, home: Path) -> None:
    run(job, "one")
    words = [sys.executable, "-m", "vision_mlops", "job", "prune", "--days", "0"]
    done = subprocess.run([*words, "--dry-run", "--json"], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["jobs"] == ["one"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stdout == "one\n"
    assert "1 job and 1 cached result removed" in done.stderr
    assert job_names() == []


def _text(path: Path) -> str:
    return path.read_text() if path.exists() else ""
