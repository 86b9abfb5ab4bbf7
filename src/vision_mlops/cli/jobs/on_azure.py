"""What `mlops job` and `mlops run` do with ``--on azure``: submit jobs, follow them, and download their outputs."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from vision_mlops.cli.azure.checks_first import check_first
from vision_mlops.cli.output import emit, emit_json, say
from vision_mlops.config.azure_settings import AzureSettings
from vision_mlops.core.errors import AzureError, ConfigError
from vision_mlops.jobs.local.environments.environment_contract import EnvironmentMode

if TYPE_CHECKING:
    from vision_mlops.jobs.azureml.azure_records import JobRecord

STEPS_AT_ONCE = 2  # on this machine, unless --jobs says otherwise


def workspace_client() -> Any:
    """Return a client of the workspace that the settings name."""
    from vision_mlops.azure.clients import ml_client

    return ml_client(AzureSettings.load())


def run_on_azure(
    file: Path,
    changes: Sequence[str],
    name: str | None,
    *,
    wait: bool,
    tags: dict[str, str] | None = None,
    skip_checks: bool = False,
) -> JobRecord:
    """Submit a job, and follow it to its end if ``wait`` is set. Messages go to standard error."""
    from vision_mlops.azure.clients import ml_client
    from vision_mlops.cli.jobs.own_code_snapshot import step_code
    from vision_mlops.jobs.azureml import azure_jobs

    place = AzureSettings.load()
    checks = partial(check_first, "jobs", skip=skip_checks, settings=place)
    job = azure_jobs.submit(file, changes, place, name, tags=tags, say=say, before=checks, step_code=step_code)
    with azure_jobs.told_on_interrupt(job.name, say):
        say(f"submitted {job.name}")
        if not wait:
            say(f"follow it with: mlops job logs {job.name} --on azure --follow")
            return job
        return azure_jobs.stream(ml_client(place), job.name, on_line=say)


def refuse_options_of_this_machine(environment: EnvironmentMode, jobs: int) -> None:
    """Refuse options that say how steps run as processes on this machine.

    Raises:
        ConfigError: such an option is given.
    """
    if environment is not EnvironmentMode.AUTO:
        raise ConfigError(
            f"--environment {environment.value} has no effect with --on azure: each step runs in its own environment there",
            "remove it, or run the job on this machine with --on local",
        )
    if jobs != STEPS_AT_ONCE:
        raise ConfigError(
            f"--jobs {jobs} has no effect with --on azure: the clusters decide how many steps run in parallel",
            "remove it, or run the job on this machine with --on local",
        )


def report_azure(job: JobRecord, *, as_json: bool, waited: bool) -> None:
    """Report how a job ended; exit with code 1 if it did not complete."""
    emit(job.to_dict(), f"{job.name}: {job.status}", as_json=as_json)
    if waited and job.status == "Completed" and not as_json:
        say(f"download its outputs with: mlops job download {job.name} --out DIR")
    if waited and job.status != "Completed":
        raise typer.Exit(1)


def cancel_azure(name: str, *, as_json: bool, if_running: bool = False) -> None:
    """Cancel a job; with ``if_running``, a job that does not exist is not an error."""
    from vision_mlops.azure.azure_errors import is_missing
    from vision_mlops.jobs.azureml.azure_jobs import cancel

    try:
        job = cancel(workspace_client(), name, say=say)
    except AzureError as error:
        if not (if_running and is_missing(error)):
            raise
        say(f"no job {name!r} exists: nothing to cancel")
        return
    emit(job.to_dict(), f"{job.name}: {job.status}", as_json=as_json)


def download_azure(name: str, outputs: Sequence[str], out: Path, *, as_json: bool) -> dict[str, Path]:
    """Download outputs of a job."""
    from vision_mlops.jobs.azureml.azure_jobs import download

    found = download(workspace_client(), name, outputs, out)
    if as_json:
        emit_json({key: str(path) for key, path in found.items()})
    else:
        for key, path in found.items():
            say(f"  {key}: {path}")
    return found


def metrics_azure(name: str) -> dict[str, float]:
    """Return the metrics that a job logged; empty, with a note, if the tracking server does not respond."""
    from vision_mlops.azure.clients import ml_client
    from vision_mlops.jobs.azureml.azure_jobs import tracked

    try:
        place = AzureSettings.load()
        return dict(tracked(ml_client(place), place, name).metrics)
    except AzureError as error:
        say(f"note: its metrics could not be read: {error.message}")
        return {}


def bring_back(job: JobRecord, out: Path) -> dict[str, Any]:
    """Download the outputs of a completed pipeline job, and return them with the metrics that its steps logged."""
    from vision_mlops.jobs.azureml.run_history import RunHistory

    outputs = download_azure(job.name, (), out, as_json=False)
    steps = RunHistory(workspace_client()).steps(job.name)
    metrics = {step.step: metrics_azure(step.name) for step in steps}
    found = {step: values for step, values in metrics.items() if values}
    return {"outputs": {key: str(path) for key, path in outputs.items()}, "metrics": found}
