"""Who runs a job: an interface, and a command line behind it."""

from __future__ import annotations

import json
import signal
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from azureml_emulator.jobs.reported_states import FINAL, ReportedJob, read_state
from azureml_emulator.process_commands import ProcessCommands
from azureml_emulator.rest.rest_calls import Json


@dataclass(frozen=True)
class JobOrder:
    """A job to run: a definition in Azure ML v2 YAML, where its state goes, and the variables of its process."""

    name: str
    definition: Path
    folder: Path
    home: Path
    environment: dict[str, str]


class JobExecution(Protocol):
    """A job under way."""

    def state(self) -> ReportedJob:
        """How far it is."""

    def cancel(self) -> None:
        """End it soon; its state becomes ``Canceled``."""

    def metrics(self, step: str) -> dict[str, float]:
        """Last value of each metric that a step has logged; of the job itself where the name is empty."""


class JobExecutor(Protocol):
    """Starts jobs."""

    def start(self, order: JobOrder) -> JobExecution:
        """Start one; returns at once."""


class CommandExecutor:
    """Runs each job with a command, in a process of its own.

    Args:
        commands: Has the command that runs a job.
    """

    def __init__(self, commands: ProcessCommands | None = None) -> None:
        self._commands = commands or ProcessCommands()

    def start(self, order: JobOrder) -> JobExecution:
        """Start the process; what it prints goes to a file in the job's folder."""
        output = order.folder / "output.txt"
        with output.open("wb") as file:
            process = subprocess.Popen(
                self._commands.job_line(order.definition, order.name),
                stdout=file,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                cwd=order.folder,
                env={**order.environment, **self._commands.job_variables(order.home)},
            )
        return _Process(process, order, output)


class _Process:
    def __init__(self, process: subprocess.Popen[bytes], order: JobOrder, output: Path) -> None:
        self._process = process
        self._output = output
        self._home = order.home
        self._file = order.home / "jobs" / order.name / "state.json"
        self._cancelled = False

    def state(self) -> ReportedJob:
        ended = self._process.poll()
        state = read_state(self._written(), {"logs/azureml/executionlogs.txt": self._output})
        if ended is None:
            # The state is written before the process ends; it is done when both say so.
            return state if state.status not in FINAL else replace(state, status="Running", message="")
        if self._cancelled:
            return replace(state, status="Canceled")
        if state.status in FINAL:
            return state
        tail = "\n".join(self._output.read_text(errors="replace").splitlines()[-20:])
        return replace(state, status="Failed", message=f"the runner ended with exit code {ended}:\n{tail}")

    def _written(self) -> Json:
        found: Json = json.loads(self._file.read_text(encoding="utf-8")) if self._file.exists() else {}
        return found

    def metrics(self, step: str) -> dict[str, float]:
        from mlflow import MlflowClient

        written, store = self._written(), self._home / "mlflow.db"
        steps: Json = written.get("steps", {})
        if not step and written.get("kind") != "pipelineJob" and len(steps) == 1:  # its one step is the job itself
            (step,) = steps
        # The run of a trial is not in the file, so its numbers are not to be had.
        run = (steps.get(step, {}) if step else written).get("run_id")
        if not run or not store.exists():
            return {}
        found: dict[str, float] = MlflowClient(f"sqlite:///{store.as_posix()}").get_run(run).data.metrics
        return found

    def cancel(self) -> None:
        if self._process.poll() is None:
            self._cancelled = True
            self._process.send_signal(signal.SIGINT)
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(10)
