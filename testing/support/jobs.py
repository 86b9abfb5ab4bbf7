"""Jobs of tests: definitions from a few words, run in this process or as `mlops job ...` in one of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from vision_mlops.core import paths
from vision_mlops.data.fetch.download_client import DownloadRetryPolicy
from vision_mlops.jobs.local.engine.local_jobs import JobOptions, JobResult, resume_job, run_job
from vision_mlops.jobs.local.state.job_display import PlainDisplay

SCHEMA = "https://azuremlschemas.azureedge.net/latest"
ENVIRONMENT = "azureml:env:1"
# The command line on a machine where MLflow is not installed: it starts in a third of the time, too.
WITHOUT_MLFLOW = "import sys; sys.modules['mlflow'] = None; from vision_mlops.cli.main import main; main()"


def command(text: str, outputs: Mapping[str, str | dict[str, Any]] | None = None, **more: Any) -> dict[str, Any]:
    """A command step; ``outputs`` are types by name."""
    ports = {name: {"type": item} if isinstance(item, str) else item for name, item in (outputs or {}).items()}
    return {
        "type": "command",
        "command": text,
        "environment": ENVIRONMENT,
        **({"outputs": ports} if ports else {}),
        **more,
    }


def component(text: str, inputs: Mapping[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """A command component of name ``part``; ``inputs`` are declarations, or types by name."""
    ports = {name: {"type": item} if isinstance(item, str) else item for name, item in (inputs or {}).items()}
    return {"$schema": f"{SCHEMA}/commandComponent.schema.json", "name": "part", "version": 1, "inputs": ports,
            **command(text, **more)}  # fmt: skip


def pipeline(jobs: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """A pipeline job."""
    return {"$schema": f"{SCHEMA}/pipelineJob.schema.json", "type": "pipeline", "jobs": dict(jobs), **more}


def command_job(text: str, outputs: Mapping[str, str | dict[str, Any]] | None = None, **more: Any) -> dict[str, Any]:
    """A command job."""
    return {"$schema": f"{SCHEMA}/commandJob.schema.json", **command(text, outputs, **more)}


def write(path: Path, content: Mapping[str, Any] | str) -> Path:
    """Write a definition, or text."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = content if isinstance(content, str) else yaml.safe_dump(dict(content), sort_keys=False)
    path.write_text(text, encoding="utf-8")
    return path


class Lines:
    """What a person would see of a job."""

    def __init__(self) -> None:
        self.all: list[str] = []

    def options(self, **more: Any) -> JobOptions:
        """Options that write here."""
        patience = DownloadRetryPolicy(attempts=2, pause=0.01)
        return JobOptions(**{"display": PlainDisplay(write=self.all.append), "patience": patience, **more})

    def of(self, step: str) -> list[str]:
        """What a step wrote."""
        return [line.removeprefix(f"{step} | ") for line in self.all if line.startswith(f"{step} | ")]


def run(path: Path, *changes: str, name: str | None = None, lines: Lines | None = None, **options: Any) -> JobResult:
    """Run a job in this process."""
    return run_job(path, changes, name=name, options=(lines or Lines()).options(**options))


def resume(name: str, **options: Any) -> JobResult:
    """Resume a job in this process."""
    return resume_job(name, options=replace(Lines().options(), **options))


def statuses(ended: JobResult) -> dict[str, str]:
    """Status by step."""
    return {name: step.status.value for name, step in ended.state.steps.items()}


def ran(ended: JobResult) -> set[str]:
    """Steps that were not reused."""
    return {name for name, status in statuses(ended).items() if status != "Reused"}


def output(ended: JobResult, step: str, name: str = "out") -> Path:
    """Place of a step's output."""
    return Path(ended.state.steps[step].outputs[name])


def text(ended: JobResult, step: str, name: str = "out") -> str:
    """Content of a step's output that is a file, without white space around it."""
    return output(ended, step, name).read_text(encoding="utf-8").strip()


def state(name: str) -> dict[str, Any]:
    """State of a job as other processes see it; empty before there is one."""
    file = paths.home() / "jobs" / name / "state.json"
    return dict(json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else {}


def mlops(*words: str | Path, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command line to its end, without MLflow."""
    return subprocess.run(
        [sys.executable, "-c", WITHOUT_MLFLOW, *map(str, words)],
        cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip


@contextmanager
def started(
    *words: str | Path, cwd: Path | None = None, user: int | None = None, first: str = "", **environment: str
) -> Iterator[subprocess.Popen[str]]:
    """The command line while it runs, without MLflow; killed at the end where it still does. ``first`` is code before it."""
    process = subprocess.Popen(
        [sys.executable, "-c", first + WITHOUT_MLFLOW, *map(str, words)],
        cwd=cwd, user=user, env={**os.environ, **environment}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def until(condition: Callable[[], object], seconds: float = 60.0) -> None:
    """Wait for something; fails where it does not come."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come within the time"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    """Whether a process runs: one that has ended and that nobody has asked for counts as gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def end(pid: int) -> None:
    """Kill one process."""
    os.kill(pid, signal.SIGKILL)
    until(lambda: not alive(pid))
