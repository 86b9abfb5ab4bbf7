"""Removes old jobs of this machine, and cached results that no job refers to any more."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from vision_mlops.core import paths
from vision_mlops.core.files import remove_path
from vision_mlops.core.locks import is_taken
from vision_mlops.jobs.local.environments.virtual_environment import remove_environment, unused_environments
from vision_mlops.jobs.local.state.job_state import JobFolder, JobState, jobs
from vision_mlops.jobs.local.steps.step_results import StepFolder, stored_result

_DAY_SECONDS = 86_400.0


@dataclass(frozen=True)
class Pruned:
    """What was removed, or would be: names of jobs, numbers of cached results and virtual environments, and bytes."""

    jobs: list[str]
    results: int
    environments: int
    size: int


def prune(days: float, *, dry_run: bool = False) -> Pruned:
    """Remove old jobs, and results and environments that have not been used since.

    A running job is kept, and so is one whose results a remaining job refers to. Models in the registry, MLflow runs,
    registered assets and what was copied to paths of the user are not touched.

    Args:
        days: Age in days at which a job counts as old; 0 removes everything that is not running.
        dry_run: Only report what would be removed.
    """
    before = time.time() - days * _DAY_SECONDS
    known = jobs()
    old = [state for state in known if _is_old(state, before)]
    old = _without_used(old, known)
    gone = {state.name for state in old}
    used = {path for state in known if state.name not in gone for path in _outputs(state)}
    folders = [JobFolder(state.name).path for state in old]
    results = [folder for folder in _results() if _is_free(folder, before, used)]
    running = {step.environment for state in known if not state.status.over for step in state.steps.values()}
    environments = [folder for folder in unused_environments(before) if str(folder) not in running]
    size = sum(_size(folder) for folder in [*folders, *results, *environments])
    if not dry_run:
        for state in old:
            _remove_job(JobFolder(state.name))
        for folder in results:
            workplace = StepFolder(folder)
            if workplace.claim():  # no step has begun to write there since
                remove_path(folder)
                workplace.release()
        for folder in environments:
            remove_environment(folder)
    return Pruned(sorted(gone), len(results), len(environments), size)


def _is_old(state: JobState, before: float) -> bool:
    moment = state.ended or state.created
    return state.status.over and datetime.fromisoformat(moment).timestamp() <= before


def _without_used(old: list[JobState], known: list[JobState]) -> list[JobState]:
    """Return the old jobs, without those whose results a remaining job refers to."""
    while True:
        gone = {state.name for state in old}
        shown = [path for state in known if state.name not in gone for path in _outputs(state)]
        keep = {state.name for state in old if any(path.is_relative_to(JobFolder(state.name).path) for path in shown)}
        if not keep:
            return old
        old = [state for state in old if state.name not in keep]


def _outputs(state: JobState) -> Iterator[Path]:
    for step in state.steps.values():
        yield from (Path(text) for text in step.outputs.values())


def _results() -> Iterator[Path]:
    root = paths.home() / "cache" / "steps"
    return (path for path in root.iterdir() if path.is_dir()) if root.is_dir() else iter(())


def _is_free(folder: Path, before: float, used: set[Path]) -> bool:
    """Return whether a folder of the cache is old, nothing writes to it, and no job refers to it."""
    if any(path.is_relative_to(folder) for path in used) or is_taken(folder / ".lock"):
        return False
    marks = [folder / "result.json", folder / "outputs", folder]
    mark = next(path for path in marks if path.exists())
    return mark.stat().st_mtime <= before and not _points_to(folder, used)


def _points_to(folder: Path, used: set[Path]) -> bool:
    """Return whether a folder points to results in another folder that a job refers to."""
    found = stored_result(folder)
    return found is not None and any(path in used for path in found[1].outputs.values())


def _remove_job(folder: JobFolder) -> None:
    """Remove a job, its state last: after an interrupted removal it is still a job, which is removed the next time."""
    with folder.hold():
        for item in folder.path.iterdir():
            if item.name not in (".lock", "state.json"):
                remove_path(item)
        remove_path(folder.path)


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
