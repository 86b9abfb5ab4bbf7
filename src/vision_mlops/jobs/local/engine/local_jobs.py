"""Runs, resumes and cancels local jobs, and reads their logs."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from vision_mlops.core.errors import JobError, MlopsError, PipelineError
from vision_mlops.core.hashing import Fingerprints
from vision_mlops.core.revision import git_commit
from vision_mlops.data.asset_store import AssetStore
from vision_mlops.data.fetch.download_client import DownloadRetryPolicy
from vision_mlops.jobs.definitions.overrides import parse_changes
from vision_mlops.jobs.definitions.plan.planner import resolve
from vision_mlops.jobs.local.engine.output_publishing import check_places, job_outputs
from vision_mlops.jobs.local.engine.scheduler import Scheduler
from vision_mlops.jobs.local.environments.environment_contract import EnvironmentMode
from vision_mlops.jobs.local.environments.step_environments import StepEnvironments
from vision_mlops.jobs.local.inputs.input_sources import ModelFinder, Sources
from vision_mlops.jobs.local.state.job_context import Context, Dependencies
from vision_mlops.jobs.local.state.job_display import Display, open_display
from vision_mlops.jobs.local.state.job_runs import JobRuns
from vision_mlops.jobs.local.state.job_state import JobFolder, JobState, Status, StepState, new_name, now
from vision_mlops.jobs.local.steps.default_artifacts import with_taken_artifacts
from vision_mlops.jobs.local.steps.preflight import check
from vision_mlops.jobs.local.steps.step_process import LogTail
from vision_mlops.jobs.local.steps.step_results import end_owners
from vision_mlops.jobs.pipelines import present

DEFAULT_EXPERIMENT = "jobs"
_CANCEL_SECONDS = 60.0


@dataclass(frozen=True)
class JobOptions:
    """How a job is run.

    Attributes:
        jobs: Largest number of processes at once.
        force: Reuse nothing from earlier jobs.
        display: What the user sees; by default what suits the terminal.
        find_model: Returns the folder of a registered model.
        dependencies: What the results of steps depend on beyond their definition.
        tags: Additional tags of the job.
        patience: How often and how long to try to reach the servers of http inputs.
        environment: What the environments of steps mean on this machine.
    """

    jobs: int = 2
    force: bool = False
    display: Display | None = None
    find_model: ModelFinder | None = None
    dependencies: Dependencies = field(default_factory=Dependencies)
    tags: Mapping[str, str] = field(default_factory=dict)
    patience: DownloadRetryPolicy | None = None
    environment: EnvironmentMode = EnvironmentMode.AUTO


@dataclass(frozen=True)
class JobResult:
    """A job that has ended. ``failures`` has the last lines of each failed step, and the command that repeats it."""

    state: JobState
    failures: dict[str, tuple[list[str], str]]


def run_job(
    path: Path, changes: Iterable[str] = (), *, name: str | None = None, options: JobOptions | None = None
) -> JobResult:
    """Run an Azure ML v2 command, pipeline or sweep job on this machine.

    Args:
        path: Its definition.
        changes: Texts ``dotted.key=value``, applied to the definition.
        name: Name of the job; a new one by default.
        options: How it is run.

    Returns:
        The job as it ended, even if steps failed.

    Raises:
        PipelineError: the definition has mistakes, or requests what this machine cannot do.
        JobError: a job of that name exists.
    """
    options, changes = options or JobOptions(), list(changes)
    base = Path.cwd()
    job = _Prepared(path, changes, base, options)
    folder = JobFolder(name or new_name(job.plan.name))
    with folder.hold():
        if folder.exists:
            raise JobError(f"a job {folder.name!r} already exists", "use another name, or `mlops job resume`")
        state = JobState(name=folder.name, definition=str(path.resolve()), kind=job.plan.kind, created=now(),
                         changes=changes, base=str(base), jobs=options.jobs, force=options.force,
                         environment=options.environment)  # fmt: skip
        return job.run(folder, state, resumed=False)


def resume_job(name: str, *, options: JobOptions | None = None) -> JobResult:
    """Continue a job that was interrupted or canceled, or has failed: steps that succeeded are kept.

    Raises:
        JobError: no such job exists, it is running, or it has completed.
        PipelineError: its definition has mistakes.
    """
    options, folder = options or JobOptions(), JobFolder(name)
    before = _resumable(folder)
    options = replace(options, environment=EnvironmentMode(before.environment), force=options.force or before.force)
    job = _Prepared(present(Path(before.definition)), before.changes, Path(before.base), options)
    with folder.hold():
        before = _resumable(folder)  # it may have changed
        for step in before.steps:
            end_owners(folder.step(step))
        return job.run(folder, before, resumed=True)


def _resumable(folder: JobFolder) -> JobState:
    state = folder.load()
    if state.status is Status.COMPLETED:
        raise JobError(f"the job {folder.name!r} has completed", "run its definition again with `mlops job run`")
    return state


def _registered(reference: str) -> Path | None:
    """Return the definition of a component in this machine's asset store; None if it is unknown."""
    try:
        return AssetStore().find("components", reference).content
    except PipelineError:
        return None


class _Prepared:
    """A job that was checked and can run on this machine."""

    def __init__(self, path: Path, changes: list[str], base: Path, options: JobOptions) -> None:
        plan = with_taken_artifacts(resolve(path, changes=parse_changes(changes, base), registered=_registered))
        if (code := options.dependencies.code) is not None:
            plan = replace(plan, nodes=tuple(replace(node, code=code(node) or node.code) for node in plan.nodes))
        self.plan, self._options = plan, options
        self._sources = Sources(options.find_model, options.patience)
        self._environments = StepEnvironments(options.environment)
        check(plan, self._sources, options.dependencies, self._environments)

    def run(self, folder: JobFolder, state: JobState, *, resumed: bool) -> JobResult:
        """Run it in a folder, which this process holds."""
        plan, options = self.plan, self._options
        check_places(plan, folder)
        left_open = [step.run_id for step in state.steps.values() if step.run_id and not step.ended]
        state.kind, state.display_name = plan.kind, plan.display_name
        state.experiment = plan.experiment or DEFAULT_EXPERIMENT
        state.inputs, state.tags = dict(plan.inputs), {**plan.tags, **state.tags, **options.tags}
        state.unused = {"": dict(plan.unused), **{node.step: dict(node.unused) for node in plan.nodes if node.unused}}
        state.steps = {node.step: StepState() for node in plan.nodes}
        state.status, state.started, state.ended, state.message = Status.RUNNING, now(), "", ""
        with Fingerprints() as fingerprints, options.display or open_display() as display:
            folder.cancel_file.unlink(missing_ok=True)
            for finding in plan.warnings:
                display.note(finding.on_one_line())
            tags = {"mlops.definition": plan.file.name, **state.tags}
            context = Context(
                folder, plan, state, fingerprints, self._sources,
                JobRuns(state.experiment, state.name, tags, state.run_id, left_open), display, self._environments,
                force=options.force or bool(plan.settings.get("force_rerun")), resumed=resumed,
                dependencies=options.dependencies,
                commit=git_commit(plan.file.parent.resolve()),
            )  # fmt: skip
            context.save()
            for note in self._environments.notes(plan.nodes):
                display.note(f"warning: {note}")
            scheduler = Scheduler(context, options.jobs)
            _see_through(context, scheduler)
        failures = {run.node.step: (run.last_lines(), _repeat(folder, run.node.step)) for run in scheduler.failed}
        return JobResult(state, failures)


def _see_through(context: Context, scheduler: Scheduler) -> None:
    """Run the steps and record how the job ended, however it did."""
    state = context.state
    try:
        state.status = scheduler.run()
        state.run_id = context.runs.run_id
        if state.status is Status.FAILED:
            names = ", ".join(run.node.step for run in scheduler.failed)
            state.message = f"failed: {names}"
        elif state.status is Status.COMPLETED:
            state.outputs = job_outputs(context.plan, context.folder)
    except KeyboardInterrupt as error:
        state.status, state.message = Status.INTERRUPTED, "interrupted"
        again = f"to continue, run the same command again, or: mlops job resume {state.name}"
        raise KeyboardInterrupt(f"interrupted; {again}") from error
    except BaseException as error:
        state.status, state.message = Status.FAILED, str(error)
        raise
    finally:
        state.ended = now()
        context.folder.cancel_file.unlink(missing_ok=True)
        context.save()
        _close_run(context)


def _close_run(context: Context) -> None:
    """End the job's MLflow run. Whether that succeeds does not change how the job ended."""
    state = context.state
    try:
        run_id = context.runs.run_id  # a job that ends within its first seconds waits for it
        context.runs.note({f"mlops.step.{name}": step.status.value for name, step in state.steps.items()})
        context.runs.end(run_id, failed=state.status is not Status.COMPLETED)
    except MlopsError as error:
        if error.message not in state.message:
            state.message = f"{state.message}; {error.message}".removeprefix("; ")
            context.save()
        return
    if run_id != state.run_id:
        context.save()


def _repeat(folder: JobFolder, step: str) -> str:
    script = folder.step(step) / "repeat.sh"
    return shlex.join(["bash", str(script)]) if script.is_file() else f"mlops job resume {folder.name}"


def cancel_job(name: str) -> JobState:
    """Ask the process that runs a job to end it, and wait until it has ended.

    If that process was killed and its steps are still running, they are ended.

    Raises:
        JobError: no such job exists, it has ended, or it does not end within a minute.
    """
    folder = JobFolder(name)
    state = folder.load()
    ended = [end_owners(folder.step(step)) for step in state.steps] if state.status is Status.INTERRUPTED else []
    if any(ended):
        with folder.hold():
            state.status, state.message, state.ended = Status.CANCELED, "its steps were still running without it", now()
            folder.save(state)
        return state
    if state.status.over:
        raise JobError(f"the job {name!r} is not running: {state.status.value.lower()}", "`mlops job list` shows all")
    folder.cancel_file.touch()
    deadline = time.monotonic() + _CANCEL_SECONDS
    while folder.held:
        if time.monotonic() > deadline:
            raise JobError(f"the job {name!r} did not end within {_CANCEL_SECONDS:g} s", "check its logs")
        time.sleep(0.1)
    return folder.load()


def job_logs(name: str, step: str | None = None, *, follow: bool = False) -> Iterator[tuple[str, str]]:
    """Yield the lines that the steps of a job wrote, each with the name of its step.

    Args:
        name: Name of the job.
        step: Name of the only step to include.
        follow: Continue while the job runs.

    Raises:
        JobError: no such job or step exists.
    """
    folder = JobFolder(name)
    state = folder.load()
    if step is not None and step not in state.steps:
        raise JobError(f"the job {name!r} has no step {step!r}", f"it has: {', '.join(state.steps)}")
    tails: dict[tuple[str, str], LogTail] = {}
    while True:
        over = not folder.held
        for each in [step] if step else list(state.steps):
            for file in sorted(folder.step(each).glob("std*.log")):
                tail = tails.setdefault((each, file.name), LogTail(file, from_start=True))
                yield from ((each, line) for line in tail.lines(last=over or not follow))
        if over or not follow:
            return
        time.sleep(0.2)
