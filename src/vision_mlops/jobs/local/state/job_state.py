"""The state of a job of this machine: one JSON file, replaced at each change, that other processes read."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from vision_mlops.core import paths
from vision_mlops.core.errors import JobError
from vision_mlops.core.files import atomic_write
from vision_mlops.core.locks import HeldLock, is_taken, take
from vision_mlops.core.text import nearest
from vision_mlops.jobs.local.environments.environment_contract import EnvironmentMode

_NAME = re.compile(r"[A-Za-z0-9][\w-]{0,127}", re.ASCII)
_LOOK_SECONDS = 0.3  # a process that checks whether the job is running holds it for a moment


class Status(StrEnum):
    """Status of a job or step, in Azure ML's words; Reused and Interrupted are ours."""

    WAITING = "Waiting"
    RUNNING = "Running"
    COMPLETED = "Completed"
    REUSED = "Reused"
    FAILED = "Failed"
    CANCELED = "Canceled"
    SKIPPED = "Skipped"
    INTERRUPTED = "Interrupted"

    @property
    def succeeded(self) -> bool:
        """Whether it has outputs."""
        return self in (Status.COMPLETED, Status.REUSED)

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self not in (Status.WAITING, Status.RUNNING)


@dataclass
class StepState:
    """The state of one step.

    ``outputs`` are absolute paths; ``environment`` is what it ran in, empty for this Python; ``key`` is its cache key,
    without any state outside of the job.
    """

    status: Status = Status.WAITING
    started: str = ""
    ended: str = ""
    seconds: float = 0.0
    exit_code: int | None = None
    message: str = ""
    run_id: str = ""
    folder: str = ""
    key: str = ""
    environment: str = ""
    outputs: dict[str, str] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)


@dataclass
class JobState:
    """The state of one job: its definition, its status, and its steps in an order in which they can run.

    ``base`` is the folder that local paths in ``changes`` are relative to, ``environment`` the mode of environments.
    """

    name: str
    definition: str
    kind: str
    created: str
    changes: list[str] = field(default_factory=list)
    base: str = ""
    display_name: str = ""
    experiment: str = ""
    status: Status = Status.WAITING
    started: str = ""
    ended: str = ""
    message: str = ""
    run_id: str = ""
    jobs: int = 1
    force: bool = False
    environment: str = EnvironmentMode.AUTO
    inputs: dict[str, str] = field(default_factory=dict)
    outputs: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    unused: dict[str, dict[str, str]] = field(default_factory=dict)
    steps: dict[str, StepState] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the state as plain values."""
        return {**vars(self), "steps": {name: dict(vars(step)) for name, step in self.steps.items()}}

    @property
    def seconds(self) -> float:
        """How long it ran, or has been running so far."""
        return seconds_between(self.started, self.ended)


class JobFolder:
    """Folder ``jobs/NAME`` of the home folder."""

    def __init__(self, name: str) -> None:
        if not _NAME.fullmatch(name):
            raise JobError(f"{name!r} cannot be the name of a job", "use letters, digits, - and _")
        self.name = name
        self.path = paths.home() / "jobs" / name
        self._lock: HeldLock | None = None

    def step(self, step: str) -> Path:
        """Return the folder of a step: logs, working copy, and links to its outputs."""
        return self.path / "steps" / step

    @property
    def exists(self) -> bool:
        """Whether the job exists."""
        return (self.path / "state.json").is_file()

    def save(self, state: JobState) -> None:
        """Replace the state file. It is indented only once the job has ended, because that takes ten times as long."""
        text = json.dumps(state.to_dict(), indent=2 if state.status.over else None)
        atomic_write(self.path / "state.json", text + "\n")

    def load(self) -> JobState:
        """Read the state. A job that says it is running while no process holds it was interrupted.

        Raises:
            JobError: no such job exists, or its file is broken.
        """
        state = self._read()
        if not state.status.over and not self.held:
            state = self._read()  # it may have ended since
        if not state.status.over and not self.held:
            state.status = Status.INTERRUPTED
            state.message = state.message or f"its process ended; continue it with `mlops job resume {self.name}`"
            for step in state.steps.values():
                if step.status is Status.RUNNING:
                    step.status = Status.INTERRUPTED
        return state

    def _read(self) -> JobState:
        try:
            return _states().validate_json((self.path / "state.json").read_bytes())
        except FileNotFoundError:
            hint = nearest(self.name, job_names(), "start one with `mlops job run FILE`", "jobs")
            raise JobError(f"no job {self.name!r} exists", hint) from None
        except (OSError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise JobError(f"{self.path / 'state.json'} cannot be read: {reason}", f"remove {self.path}") from error

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Prevent other processes from running this job. If the folder contains no job, it is removed afterwards.

        Raises:
            JobError: another process runs it.
        """
        self._lock = take(self.path / ".lock", wait=_LOOK_SECONDS)
        if self._lock is None:
            hint = f"follow it with `mlops job logs {self.name} --follow`"
            raise JobError(f"the job {self.name!r} is already running", hint)
        try:
            yield
        finally:
            if not self.exists:
                (self.path / ".lock").unlink(missing_ok=True)
                with suppress(OSError):  # it existed before, with other content
                    self.path.rmdir()
            self._lock.lock.release()
            self._lock = None

    @property
    def held(self) -> bool:
        """Whether a process, this one included, runs it."""
        return self._lock is not None or is_taken(self.path / ".lock")

    @property
    def cancel_file(self) -> Path:
        """The file whose existence asks the running process to stop."""
        return self.path / ".cancel"


def job_names() -> list[str]:
    """List the names of all jobs of this machine, oldest first."""
    found = list((paths.home() / "jobs").glob("*/state.json"))
    return [path.parent.name for path in sorted(found, key=lambda path: path.parent.stat().st_ctime_ns)]


def jobs() -> list[JobState]:
    """List all jobs of this machine, newest first, without broken ones."""
    found = []
    for name in job_names():
        try:
            found.append(JobFolder(name).load())
        except JobError:
            continue
    return sorted(found, key=lambda state: state.created, reverse=True)


def new_name(stem: str) -> str:
    """Create a name that no job has: ``train-20261124-061502-3fa2``."""
    plain = re.sub(r"[^A-Za-z0-9]+", "-", stem).strip("-") or "job"
    return f"{plain[:60]}-{datetime.now():%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


def now() -> str:
    """Return the current time in UTC."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def seconds_between(started: str, ended: str) -> float:
    """Return the seconds between two moments; 0 if the first is empty, and until now if the second is."""
    if not started:
        return 0.0
    end = datetime.fromisoformat(ended) if ended else datetime.now(UTC)
    return (end - datetime.fromisoformat(started)).total_seconds()


def started_at(pid: int) -> int | None:
    """Return the start of a process in clock ticks, which a later one of the same id does not share; None without one."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    return int(stat.rpartition(")")[2].split()[19])


@cache
def _states() -> TypeAdapter[JobState]:
    return TypeAdapter(JobState)
