"""The progress of a job and its steps, in the service's terms; read from the local engine's ``state.json``."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field, replace
from pathlib import Path

from azureml_emulator.rest.rest_calls import Json
from azureml_emulator.whole_files import write_whole

FINAL = frozenset({"Completed", "Failed", "Canceled"})
# The engine's terms, translated to those of the service.
_STEP = {"Waiting": "NotStarted", "Reused": "Completed", "Skipped": "Canceled", "Interrupted": "Failed"}
_JOB = {"Waiting": "Queued", "Interrupted": "Failed"}
_TRIAL = {"EarlyTerminated": "Canceled"}
# Clients that request logs at the same time must not join the same lines twice.
_JOINING = threading.Lock()


@dataclass(frozen=True)
class ReportedStep:
    """The progress of a step, or of a trial of a sweep."""

    status: str
    message: str = ""
    started: str = ""
    ended: str = ""
    outputs: dict[str, Path] = field(default_factory=dict)
    logs: dict[str, Path] = field(default_factory=dict)
    reused: bool = False


@dataclass(frozen=True)
class ReportedJob:
    """The progress of a job. ``best`` is the best trial of a sweep."""

    status: str
    message: str = ""
    started: str = ""
    ended: str = ""
    outputs: dict[str, Path] = field(default_factory=dict)
    steps: dict[str, ReportedStep] = field(default_factory=dict)
    logs: dict[str, Path] = field(default_factory=dict)
    best: str = ""


def read_state(written: Json, logs: dict[str, Path]) -> ReportedJob:
    """Read what the engine has written.

    Args:
        written: Content of its file; empty if it does not exist yet.
        logs: Logs of the job itself, by the name that the service gives them.
    """
    steps: Json = written.get("steps", {})
    status, best = str(written.get("status") or "Starting"), ""
    found = {name: _step(step) for name, step in steps.items()}
    if written.get("kind") == "sweepJob" and len(steps) == 1:  # its only step is the job itself; its trials run
        ((_, sweep),) = steps.items()
        details: Json = sweep.get("details") or {}
        if details.get("best"):
            best = f"trial_{details['best']['number']}"
        found = {f"trial_{trial['number']}": _trial(trial, sweep, best) for trial in details.get("trials", [])}
    if written.get("kind") == "commandJob" and len(steps) == 1:  # its only step is also the job itself
        logs, found = next(iter(found.values())).logs or logs, {}
    return ReportedJob(
        status=_JOB.get(status, status),
        message=str(written.get("message") or ""),
        started=str(written.get("started") or ""),
        ended=str(written.get("ended") or ""),
        outputs=_paths(written.get("outputs")),
        steps=found,
        logs=logs,
        best=best,
    )


def settled_state(state: ReportedJob, status: str, message: str) -> ReportedJob:
    """Return a job that has ended with a status, whatever was written last: the steps that ran have ended with it."""
    steps = {
        name: step if step.status in FINAL or step.status == "NotStarted" else replace(step, status=status)
        for name, step in state.steps.items()
    }
    return replace(state, status=status, message=message or state.message, steps=steps)


def _step(written: Json) -> ReportedStep:
    status = str(written.get("status") or "Waiting")
    return ReportedStep(
        status=_STEP.get(status, status),
        message=str(written.get("message") or ""),
        started=str(written.get("started") or ""),
        ended=str(written.get("ended") or ""),
        outputs=_paths(written.get("outputs")),
        logs=_logs(Path(written["folder"])) if written.get("folder") else {},
        reused=status == "Reused",
    )


def _trial(written: Json, sweep: Json, best: str) -> ReportedStep:
    """Return a trial; only the outputs of the best one are kept, as those of the sweep."""
    status = str(written["state"])
    outputs = _paths(sweep.get("outputs")) if f"trial_{written['number']}" == best else {}
    logs = _logs(Path(sweep["folder"]) / "trials" / str(written["number"])) if sweep.get("folder") else {}
    return ReportedStep(_TRIAL.get(status, status), str(written.get("message") or ""), outputs=outputs, logs=logs)


def _logs(folder: Path) -> dict[str, Path]:
    """Return the single log that Azure ML shows: both streams, in the order in which they were read."""
    log, taken = folder / "std_log.txt", folder / "std_log.json"
    if not folder.is_dir():
        return {}
    with _JOINING, log.open("ab") as joined:
        positions: dict[str, int] = json.loads(taken.read_text(encoding="utf-8")) if taken.exists() else {}
        if positions:  # what was joined but not recorded, because the emulator was killed in between, is repeated
            joined.truncate(sum(positions.values()))
        for name in ("stdout.log", "stderr.log"):
            if (folder / name).exists():
                content = (folder / name).read_bytes()[positions.get(name, 0) :]
                whole = content[: content.rfind(b"\n") + 1]
                joined.write(whole)
                positions[name] = positions.get(name, 0) + len(whole)
        joined.flush()
        write_whole(taken, json.dumps({name: length for name, length in positions.items() if length}))
    return {"user_logs/std_log.txt": log}


def _paths(written: Json | None) -> dict[str, Path]:
    return {name: Path(path) for name, path in (written or {}).items() if path}
