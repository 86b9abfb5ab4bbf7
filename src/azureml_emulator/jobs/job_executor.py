"""Who runs a job: an interface, and a command line behind it."""

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
    """A job to run: a definition in Azure ML v2 YAML, where its state goes, and the variables of its process.

    Variables of its steps are given by the name of the step; the empty name stands for all.
    """

    name: str
    definition: Path
    folder: Path
    home: Path
    environment: dict[str, str]
    step_variables: dict[str, dict[str, str]] = field(default_factory=dict)


class JobExecution(Protocol):
    """A job under way."""

    def state(self) -> ReportedJob:
        """How far it is."""

    def cancel(self) -> None:
        """End it soon; its state becomes ``Canceled``."""

    def preempt(self) -> None:
        """Take the machine away: end all processes of the job at once, and start it again with the outputs as they are."""

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
        return _Process(order, self._commands)


class JobFiles:
    """What a job has written, also long after its process has ended.

    Args:
        home: Where its command keeps its state.
        name: Of the job.
        output: What its command printed.
    """

    def __init__(self, home: Path, name: str, output: Path) -> None:
        self._output = output
        self._home = home
        self._file = home / "jobs" / name / "state.json"

    def state(self) -> ReportedJob:
        """How far the job was when it was last written down."""
        return read_state(self._written(), {"logs/azureml/executionlogs.txt": self._output})

    def cancel(self) -> None:
        """Nothing runs."""

    def preempt(self) -> None:
        """Nothing runs. Raises ServiceRefusalError."""
        raise ServiceRefusalError(409, "UserError", "the job does not run")

    def _written(self) -> Json:
        found: Json = json.loads(self._file.read_text(encoding="utf-8")) if self._file.exists() else {}
        return found

    def metrics(self, step: str) -> dict[str, float]:
        """Last value of each metric that a step has logged; of the job itself where the name is empty."""
        from mlflow import MlflowClient

        written, store = self._written(), self._home / "mlflow.db"
        steps: Json = written.get("steps", {})
        if not step and written.get("kind") != "pipelineJob" and len(steps) == 1:  # its one step is the job itself
            (step,) = steps
        # The run of a trial is not in the file, so its numbers are not to be had.
        run = (steps.get(step, {}) if step else written).get("run_id")
        if not run or not store.exists():
            return {}
        client = MlflowClient(f"sqlite:///{store.as_posix()}")
        try:
            found: dict[str, float] = client.get_run(run).data.metrics
        finally:
            # MLflow keeps the connection for good: where the state is made anew, it would go on reading the removed file.
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
                start_new_session=True,  # Ctrl-C reaches it by way of its cancellation only
                env={**self._order.environment, **self._commands.job_variables(self._home, self._variables)},
            )

    def preempt(self) -> None:
        with self._lock:
            if self._process.poll() is not None or self._cancelled:
                raise ServiceRefusalError(409, "UserError", f"the job {self._order.name!r} does not run")
            below = processes_below(self._process.pid)
            self._process.kill()  # first, or it would see its steps fail
            self._process.wait(10)
            for pid in below:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            started = self._file.exists()
            again = self._commands.resumed_job_line(self._order.name)
            if not started:  # it was killed before it wrote anything down
                again = self._commands.job_line(self._order.definition, self._order.name)
            self._process = self._start(again)

    def state(self) -> ReportedJob:
        with self._lock:
            return self._state()

    def _state(self) -> ReportedJob:
        ended = self._process.poll()
        state = super().state()
        if ended is None:
            # The state is written before the process ends; it is done when both say so.
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
    """Ids of the processes that a process has started, and that these have, whatever their groups."""
    parents: dict[int, int] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int((folder / "stat").read_text(errors="replace").rpartition(")")[2].split()[1])
        except (OSError, ValueError):  # it has ended by now
            continue
    found, wave = [], [pid]
    while wave:
        wave = [child for child, parent in parents.items() if parent in wave]
        found += wave
    return found
