"""An interface for running jobs, and its implementation by a command line."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import threading
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from azureml_emulator.jobs.reported_states import FINAL, ReportedJob, read_state
from azureml_emulator.process_commands import ProcessCommands
from azureml_emulator.rest.rest_calls import Json, ServiceRefusalError


@dataclass(frozen=True)
class JobOrder:
    """A job to run: a definition in Azure ML v2 YAML, the folder for its state, and the variables of its process.

    Variables of its steps are given by the name of the step; the empty name stands for all.
    """

    name: str
    definition: Path
    folder: Path
    home: Path
    environment: dict[str, str]
    step_variables: dict[str, dict[str, str]] = field(default_factory=dict)


class JobExecution(Protocol):
    """A running job."""

    def state(self) -> ReportedJob:
        """Return its progress."""

    def cancel(self) -> None:
        """Cancel it soon; its state becomes ``Canceled``."""

    def preempt(self) -> None:
        """Take away the machine: end all processes of the job at once, and start it again with the outputs as they are."""

    def metrics(self, step: str) -> dict[str, float]:
        """Return the last value of each metric that a step has logged, or of the job itself if the name is empty."""


class JobExecutor(Protocol):
    """Starts jobs."""

    def start(self, order: JobOrder) -> JobExecution:
        """Start a job; return at once."""


class CommandExecutor:
    """Runs each job with a command, in a separate process.

    Args:
        commands: Has the command that runs a job.
    """

    def __init__(self, commands: ProcessCommands | None = None) -> None:
        self._commands = commands or ProcessCommands()

    def start(self, order: JobOrder) -> JobExecution:
        """Start the process; its output goes to a file in the job's folder."""
        return _Process(order, self._commands)


class JobFiles:
    """What a job has written, even long after its process has ended.

    Args:
        home: Folder in which its command keeps its state.
        name: Name of the job.
        output: Output of its command.
    """

    def __init__(self, home: Path, name: str, output: Path) -> None:
        self._output = output
        self._home = home
        self._file = home / "jobs" / name / "state.json"

    def state(self) -> ReportedJob:
        """Return the progress of the job when it was last written."""
        return read_state(self._written(), {"logs/azureml/executionlogs.txt": self._output})

    def cancel(self) -> None:
        """Do nothing, because nothing runs."""

    def preempt(self) -> None:
        """Raise ServiceRefusalError, because nothing runs."""
        raise ServiceRefusalError(409, "UserError", "the job is not running")

    def _written(self) -> Json:
        found: Json = json.loads(self._file.read_text(encoding="utf-8")) if self._file.exists() else {}
        return found

    def metrics(self, step: str) -> dict[str, float]:
        """Return the last value of each metric that a step has logged, or of the job itself if the name is empty."""
        from mlflow import MlflowClient

        written, store = self._written(), self._home / "mlflow.db"
        steps: Json = written.get("steps", {})
        if not step and written.get("kind") != "pipelineJob" and len(steps) == 1:  # its only step is the job itself
            (step,) = steps
        # The run of a trial is not in the file, so its metrics are not available.
        run = (steps.get(step, {}) if step else written).get("run_id")
        if not run or not store.exists():
            return {}
        client = MlflowClient(f"sqlite:///{store.as_posix()}")
        try:
            found: dict[str, float] = client.get_run(run).data.metrics
        finally:
            # MLflow keeps the connection open: if the state is created again, it would continue to read the removed file.
            client._tracking_client.store.engine.dispose()
        return found


class _Process(JobFiles):
    def __init__(self, order: JobOrder, commands: ProcessCommands) -> None:
        super().__init__(order.home, order.name, order.folder / "output.txt")
        self._order = order
        self._commands = commands
        self._cancelled = False
        self._lock = threading.Lock()
        self._variables = order.folder / "step_variables.json"
        self._variables.touch(mode=0o600)
        self._variables.write_text(json.dumps(order.step_variables), encoding="utf-8")
        self._process = self._start(commands.job_line(order.definition, order.name))

    def _start(self, line: list[str]) -> subprocess.Popen[bytes]:
        with self._output.open("ab") as file:
            return subprocess.Popen(
                line,
                stdout=file,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                cwd=self._order.folder,
                start_new_session=True,  # Ctrl-C reaches it only through its cancellation
                env={**self._order.environment, **self._commands.job_variables(self._home, self._variables)},
            )

    def preempt(self) -> None:
        with self._lock:
            if self._process.poll() is not None or self._cancelled:
                raise ServiceRefusalError(409, "UserError", f"the job {self._order.name!r} is not running")
            below = processes_below(self._process.pid)
            self._process.kill()  # first, otherwise it would see its steps fail
            self._process.wait(10)
            for pid in below:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            started = self._file.exists()
            again = self._commands.resumed_job_line(self._order.name)
            if not started:  # it was killed before it wrote anything
                again = self._commands.job_line(self._order.definition, self._order.name)
            self._process = self._start(again)

    def state(self) -> ReportedJob:
        with self._lock:
            return self._state()

    def _state(self) -> ReportedJob:
        ended = self._process.poll()
        state = super().state()
        if ended is None:
            # The state is written before the process ends; the job has ended when both say so.
            return state if state.status not in FINAL else replace(state, status="Running", message="")
        if self._cancelled:
            return replace(state, status="Canceled")
        if state.status in FINAL:
            return state
        tail = "\n".join(self._output.read_text(errors="replace").splitlines()[-20:])
        return replace(state, status="Failed", message=f"the runner ended with exit code {ended}:\n{tail}")

    def cancel(self) -> None:
        if self._process.poll() is None:
            self._cancelled = True
            self._process.send_signal(signal.SIGINT)
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(10)


def processes_below(pid: int) -> list[int]:
    """Return the ids of the direct and indirect child processes of a process, whatever their groups."""
    parents: dict[int, int] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int((folder / "stat").read_text(errors="replace").rpartition(")")[2].split()[1])
        except (OSError, ValueError):  # it has already ended
            continue
    found, wave = [], [pid]
    while wave:
        wave = [child for child, parent in parents.items() if parent in wave]
        found += wave
    return found
