"""What commands that run jobs on this machine share: the engine's options, and the report at the end."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from vision_mlops.cli.output import emit_json, say
from vision_mlops.core.errors import RegistryError
from vision_mlops.core.text import counted
from vision_mlops.jobs.local.environments.environment_contract import EnvironmentMode

if TYPE_CHECKING:
    from vision_mlops.cli.jobs.run_verdict import RunVerdict
    from vision_mlops.jobs.local.engine.local_jobs import JobResult


def local_options(jobs: int, force: bool, quiet: bool, environment: EnvironmentMode = EnvironmentMode.AUTO) -> Any:
    """Return the options of a local run, with what the command line knows of models and of dependencies of our steps."""
    from vision_mlops.cli.jobs.step_dependencies import dependencies
    from vision_mlops.jobs.local.engine.local_jobs import JobOptions
    from vision_mlops.jobs.local.state.job_display import open_display

    return JobOptions(
        jobs=jobs, force=force, display=open_display(quiet=quiet), find_model=model_folder, dependencies=dependencies(),
        environment=environment,
    )  # fmt: skip


def report(ended: JobResult, *, as_json: bool, verdict: RunVerdict | None = None) -> None:
    """Report how a job ended, as JSON with its verdict if it has one; exit with code 1 if it did not complete."""
    from vision_mlops.jobs.local.state.job_display import duration
    from vision_mlops.jobs.local.state.job_state import Status

    state = ended.state
    for step, (lines, command) in ended.failures.items():
        say(f"\nstep {step!r} failed: {state.steps[step].message}")
        for line in lines:
            say(f"  {line}")
        say(f"  -> repeat it alone with: {command}")
    if as_json:
        emit_json({**state.to_dict(), **({"verdict": verdict} if verdict is not None else {})})
    else:
        reused = sum(step.status is Status.REUSED for step in state.steps.values())
        note = f", {reused} of {counted(len(state.steps), 'step')} reused" if reused else ""
        say(f"\njob {state.name}: {state.status.value.lower()} after {duration(state.seconds)}{note}")
        for name, path in state.outputs.items():
            say(f"  {name}: {path}")
    if state.status is not Status.COMPLETED:
        if not as_json:
            say(f"  fix the cause, then run: mlops job resume {state.name}")
            if "workload" in state.tags:  # the job has it as it was at the start
                say("  or, after a change of the workload, run the command that started the job again")
        raise typer.Exit(1)


def model_folder(reference: str) -> Path | None:
    """Return the bundle of a registered model that an input ``azureml:NAME:VERSION`` names; None if there is none."""
    from vision_mlops.registry import open_registry

    registry = open_registry()
    try:
        return registry.bundle_path(registry.get(reference))
    except RegistryError:
        return None
