"""What `mlops job` and `mlops run` do with ``--on azure``: submit, follow, bring back."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from vision_mlops.cli.azure.checks_first import check_first
from vision_mlops.cli.output import emit_json, emit_table, say
from vision_mlops.config.azure_settings import load_azure_settings
from vision_mlops.core.errors import ConfigError
from vision_mlops.jobs.local.environments.environment_mode import EnvironmentMode

if TYPE_CHECKING:
    from vision_mlops.jobs.azureml.azure_records import JobRecord

STEPS_AT_ONCE = 2  # on this machine, unless --jobs says otherwise


def run_on_azure(
    file: Path,
    changes: Sequence[str],
    name: str | None,
    *,
    wait: bool,
    tags: dict[str, str] | None = None,
    skip_checks: bool = False,
) -> JobRecord:
    """Submit a job and follow it to its end, unless told not to wait. What is told goes to standard error."""
    from vision_mlops.azure.clients import ml_client
    from vision_mlops.cli.jobs.own_code_snapshot import step_code
    from vision_mlops.jobs.azureml import azure_jobs

    place = load_azure_settings()
    checks = partial(check_first, "jobs", skip=skip_checks, settings=place)
    job = azure_jobs.submit(file, changes, place, name, tags=tags, say=say, before=checks, step_code=step_code)
    say(f"submitted {job.name}")
    if not wait:
        say(f"follow it with: mlops job logs {job.name} --on azure --follow")
        return job
    return azure_jobs.stream(ml_client(place), job.name, on_line=say)


def refuse_options_of_this_machine(environment: EnvironmentMode, jobs: int) -> None:
    """Options that say how steps run as processes of this machine mean nothing to Azure ML.

    Raises:
        ConfigError: one is given.
    """
    if environment is not EnvironmentMode.AUTO:
        raise ConfigError(
            f"--environment {environment.value} has no effect with --on azure: there, each step runs in its own environment",
            "remove it, or run the job on this machine with --on local",
        )
    if jobs != STEPS_AT_ONCE:
        raise ConfigError(
            f"--jobs {jobs} has no effect with --on azure: there, the clusters say how many steps run at once",
            "remove it, or run the job on this machine with --on local",
        )


def report_azure(job: JobRecord, *, as_json: bool, waited: bool) -> None:
    """Say how a job ended; exit code 1 where it did not complete."""
    if as_json:
        emit_json(job.to_dict())
    else:
        typer.echo(f"{job.name}: {job.status}")
        if waited and job.status == "Completed":
            say(f"bring its outputs here with: mlops job download {job.name} --out DIR")
    if waited and job.status != "Completed":
        raise typer.Exit(1)


def list_azure(*, as_json: bool) -> None:
    """Print the newest jobs of the workspace."""
    from vision_mlops.azure.clients import ml_client
    from vision_mlops.jobs.azureml.azure_jobs import list_jobs

    found = list_jobs(ml_client(load_azure_settings()))
    if as_json:
        emit_json([job.to_dict() for job in found])
        return
    rows = [{key: getattr(job, key) for key in ("name", "status", "type", "experiment", "created")} for job in found]
    emit_table(rows, as_json=False, empty="no jobs yet: mlops job run FILE --on azure")


def logs_azure(name: str) -> None:
    """Print what a job has written, and go on until it ends."""
    from vision_mlops.azure.clients import ml_client
    from vision_mlops.jobs.azureml.azure_jobs import stream

    stream(ml_client(load_azure_settings()), name, on_line=typer.echo)


def cancel_azure(name: str, *, as_json: bool, if_running: bool = False) -> None:
    """Cancel a job; with ``if_running`` one that does not exist is no mistake."""
    from vision_mlops.azure.azure_errors import is_missing
    from vision_mlops.azure.clients import ml_client
    from vision_mlops.core.errors import AzureError
    from vision_mlops.jobs.azureml.azure_jobs import cancel

    try:
        job = cancel(ml_client(load_azure_settings()), name, say=say)
    except AzureError as error:
        if not (if_running and is_missing(error)):
            raise
        say(f"there is no job {name}: nothing to cancel")
        return
    if as_json:
        emit_json(job.to_dict())
    else:
        typer.echo(f"{job.name}: {job.status}")


def download_azure(name: str, outputs: Sequence[str], out: Path, *, as_json: bool) -> dict[str, Path]:
    """Bring outputs of a job here."""
    from vision_mlops.azure.clients import ml_client
    from vision_mlops.jobs.azureml.azure_jobs import download

    found = download(ml_client(load_azure_settings()), name, outputs, out)
    if as_json:
        emit_json({key: str(path) for key, path in found.items()})
    else:
        for key, path in found.items():
            say(f"  {key}: {path}")
    return found


def metrics_azure(name: str) -> dict[str, float]:
    """Metrics that a job logged; empty, with a note, where the tracking server does not answer."""
    from vision_mlops.azure.clients import ml_client
    from vision_mlops.core.errors import AzureError
    from vision_mlops.jobs.azureml.azure_jobs import tracked

    try:
        place = load_azure_settings()
        return dict(tracked(ml_client(place), place, name).metrics)
    except AzureError as error:
        say(f"note: its metrics could not be read: {error.message}")
        return {}


def bring_back(job: JobRecord, out: Path) -> dict[str, Any]:
    """Outputs and metrics of a pipeline job that has completed; its metrics are those that its steps logged."""
    from vision_mlops.azure.clients import ml_client
    from vision_mlops.jobs.azureml.run_history import RunHistory

    outputs = download_azure(job.name, (), out, as_json=False)
    steps = RunHistory(ml_client(load_azure_settings())).steps(job.name)
    metrics = {step.step: metrics_azure(step.name) for step in steps}
    found = {step: values for step, values in metrics.items() if values}
    return {"outputs": {key: str(path) for key, path in outputs.items()}, "metrics": found}
