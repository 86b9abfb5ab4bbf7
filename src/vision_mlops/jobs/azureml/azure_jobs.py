"""Submits jobs to Azure ML, follows and cancels them, and downloads their outputs."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vision_mlops.azure.azure_errors import azure_errors
from vision_mlops.azure.clients import check_workspace, default_credential, ml_client, quiet
from vision_mlops.azure.retries import PATIENCE_SECONDS, retry_while_busy
from vision_mlops.config.azure_settings import AzureSettings
from vision_mlops.core.errors import AzureError
from vision_mlops.core.files import atomic_folder
from vision_mlops.jobs.azureml.azure_records import FINAL, JobRecord, job_record, text_of
from vision_mlops.jobs.azureml.job_follower import Follower
from vision_mlops.jobs.azureml.job_resources import Say, existing
from vision_mlops.jobs.azureml.run_history import RunHistory, TrackedRun, tracked_run
from vision_mlops.jobs.azureml.submission import Preparation, checked, give_code
from vision_mlops.jobs.definitions.definition import AZURE_JOBS, JOBS
from vision_mlops.jobs.definitions.overrides import parse_changes
from vision_mlops.jobs.definitions.plan.nodes import Node
from vision_mlops.jobs.definitions.plan.planner import resolve

if TYPE_CHECKING:
    from azure.ai.ml import MLClient
    from azure.core.credentials import TokenCredential

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,254}")
_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9_-]+")
_OUTPUTS = "named-outputs"
_SUBMIT_SECONDS = 60.0


def submit(
    path: Path,
    overrides: Iterable[str],
    settings: AzureSettings,
    name: str | None = None,
    *,
    compute: str | None = None,
    tags: dict[str, str] | None = None,
    environment_file: Path | None = None,
    client: MLClient | None = None,
    say: Say = lambda text: None,
    before: Callable[[], None] = lambda: None,
    step_code: Callable[[Node], Path | None] | None = None,
) -> JobRecord:
    """Check a job and start it on Azure ML; what it needs is created if it is missing.

    Args:
        path: Azure ML v2 YAML of a job: command, pipeline, sweep, AutoML, Spark or import.
        overrides: Texts such as ``inputs.seed=3``, applied to the file before it is checked.
        settings: The workspace.
        name: Name of the job; made from the file's name and the time if not given.
        compute: Cluster to run on instead of the definition's default: a name, ``cpu-cluster`` or ``gpu-cluster``.
        tags: Additional tags of the job.
        environment_file: YAML of the environment; ``environments/train.yml`` of the project if not given.
        client: Client to use instead of a new one.
        say: Told what is created and uploaded.
        before: Called after the definition was found to be correct, before anything is sent.
        step_code: Returns the folder of code that a step needs and its definition does not name.

    Returns:
        The job as it was accepted.

    Raises:
        PipelineError: the definition, a value or local data has errors; nothing was sent.
        AzureError: not signed in, no access, no quota, or a job of that name exists.
        KeyboardInterrupt: Ctrl-C; if the request may have been sent, ``say`` was told how to cancel the job.
    """
    overrides = list(overrides)
    definition = checked(path, overrides, (*JOBS, *AZURE_JOBS), say)
    codes: dict[str, Path] = {}
    if step_code is not None and definition.kind in JOBS:
        nodes = resolve(path, changes=parse_changes(overrides)).nodes
        codes = {node.step: folder for node in nodes if (folder := step_code(node)) is not None}
    chosen = checked_name(name) if name else new_name(path.stem)
    before()
    client = client or ml_client(settings)
    check_workspace(client, settings)
    if name:
        require_new(client, name)
    from azure.ai.ml import load_job

    preparation = Preparation(client, settings, say, environment_file)
    job = preparation.load(definition, load_job)
    give_code(job, codes)
    job.name = chosen
    job.tags = {**(job.tags or {}), **(tags or {})}
    preparation.choose_compute(job, compute)

    def create() -> Any:
        with azure_errors(f"job {chosen!r}"), quiet():
            return client.jobs.create_or_update(job)

    with told_on_interrupt(chosen, say, sent=False):
        # The job already has its name, so sending it again does not start a second one.
        return job_record(retry_while_busy(create, say, seconds=_SUBMIT_SECONDS))


def list_jobs(client: MLClient, *, limit: int = 50) -> list[JobRecord]:
    """List the newest jobs of the workspace, newest first, without archived ones. Raises AzureError."""
    with azure_errors("jobs"), quiet():
        found = [job_record(job) for job in islice(client.jobs.list(), limit) if job is not None]
    return sorted(found, key=lambda job: job.created, reverse=True)


def cancel(client: MLClient, name: str, *, say: Say = lambda text: None) -> JobRecord:
    """Cancel a job and wait until the service has accepted that; a job that has ended is left as it is.

    Raises:
        AzureError: the job does not exist, or the service refuses.
    """
    job = job_record(_get(client, name))
    if job.is_final:
        say(f"job {name} has already ended: {job.status}")
        return job
    with azure_errors(f"job {name!r}"), quiet():
        client.jobs.begin_cancel(name).result()
    return job_record(_get(client, name))


def stream(
    client: MLClient,
    name: str,
    *,
    on_line: Say = print,
    poll_seconds: tuple[float, float] = (2.0, 20.0),
    patience_seconds: float = PATIENCE_SECONDS,
) -> JobRecord:
    """Follow a job until it ends: report each change of state of the job and its steps, and each line of their logs.

    Throttling and lost connections are waited out. Ctrl-C stops following the job, not the job itself.

    Args:
        client: Client of the workspace.
        name: Name of the job.
        on_line: Called with each line.
        poll_seconds: Shortest and longest pause between two requests; it grows while nothing happens.
        patience_seconds: How long to keep trying while the service is busy or unavailable.

    Returns:
        The job as it ended.

    Raises:
        AzureError: the job does not exist, or the service was unavailable for too long.
        KeyboardInterrupt: Ctrl-C; before that, a line says that the job continues, and how to cancel it.
    """
    with told_on_interrupt(name, on_line):
        follower = Follower(lambda: job_record(_get(client, name)), RunHistory(client), name, on_line, patience_seconds)
        return follower.run(*poll_seconds)


@contextmanager
def told_on_interrupt(name: str, say: Say, *, sent: bool = True) -> Iterator[None]:
    """Say on Ctrl-C that a job continues, and how to cancel it; an outer block does not repeat what an inner one said.

    Args:
        name: Name of the job.
        say: Told it.
        sent: Whether the service has accepted the job; otherwise it may exist or not.
    """
    try:
        yield
    except KeyboardInterrupt as interrupt:
        if not getattr(interrupt, "__notes__", None):
            state, option = ("continues", "") if sent else ("may have been submitted", " --if-running")
            text = f"job {name} {state}; to cancel it: mlops job cancel {name} --on azure{option}"
            interrupt.add_note(text)
            say(text)
        raise


def download(client: MLClient, name: str, outputs: Sequence[str], out: Path) -> dict[str, Path]:
    """Download outputs of a job that has ended, all of them or nothing.

    Args:
        client: Client of the workspace.
        name: Name of the job.
        outputs: Names of its outputs; all of them if empty.
        out: Folder to write; must not exist. It gets a folder for each output.

    Returns:
        Path by output: its folder, or its file if it is a ``uri_file``.

    Raises:
        AzureError: the job or an output does not exist, the job has not ended, or an output was never written.
        MlopsError: ``out`` exists.
    """
    job = _get(client, name)
    state = text_of(job.status)
    if state not in FINAL:
        raise AzureError(f"job {name!r} is {state}", f"wait until it ends: mlops job logs {name} --on azure")
    declared: dict[str, Any] = dict(getattr(job, "outputs", None) or {})
    has = ", ".join(sorted(set(declared) - {"default"})) or "none"
    wanted = list(outputs) or sorted(set(declared) - {"default"})
    for output in wanted:
        if output not in declared:
            raise AzureError(f"job {name!r} has no output {output!r}", f"it has: {has}")
    if not wanted:
        raise AzureError(f"job {name!r} has no outputs", "name them in the definition")
    with atomic_folder(out) as temporary:
        for output in wanted:
            with azure_errors(f"output {output!r} of job {name!r}"), quiet():
                client.jobs.download(name, download_path=temporary, output_name=output)
            written = temporary / _OUTPUTS / output
            if not written.is_dir() or not any(written.iterdir()):
                raise AzureError(f"job {name!r} ({state}) wrote no output {output!r}", "see its log")
            written.rename(temporary / output)
        (temporary / _OUTPUTS).rmdir()
    return {output: _written(out / output, declared[output]) for output in wanted}


def tracked(
    client: MLClient, settings: AzureSettings, name: str, credential: TokenCredential | None = None
) -> TrackedRun:
    """Read the metrics, tags and duration of a job, or of a child run, from MLflow.

    They are read from the tracking server of the workspace with plain REST calls, because ``azureml-mlflow`` pins packages
    that conflict with others here. Address and token are those that Microsoft documents for MLflow's REST API on Azure ML;
    whether the service accepts them was not tested, because no Azure account was available.

    Raises:
        AzureError: the run does not exist, or the tracking server refuses.
    """
    workspace = check_workspace(client, settings)
    scope = f"{settings.cloud.resource_manager}/.default"
    credential = credential or default_credential(settings)
    return tracked_run(credential, scope, str(workspace.mlflow_tracking_uri or ""), name)


def new_name(stem: str) -> str:
    """Create a name for a job from a stem and the time. It is chosen here so that a request sent twice starts one job."""
    stem = _NOT_IN_A_NAME.sub("-", stem).strip("-_") or "job"
    return f"{stem}-{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


def _written(folder: Path, declared: Any) -> Path:
    files = [path for path in folder.iterdir() if path.is_file()]
    return files[0] if getattr(declared, "type", "") == "uri_file" and len(files) == 1 else folder


def _get(client: MLClient, name: str) -> Any:
    with azure_errors(f"job {name!r}", "see `mlops job list --on azure`"), quiet():
        return client.jobs.get(name)


def find_job(client: MLClient, name: str) -> Any | None:
    """Return the SDK's entity of a job; None if it does not exist. Raises AzureError."""
    with azure_errors(f"job {name!r}"):
        return existing(lambda: client.jobs.get(name))


def require_new(client: MLClient, name: str) -> None:
    """Check that a job does not exist yet. Raises AzureError if it does."""
    if find_job(client, name) is not None:
        raise AzureError(f"a job {name!r} already exists", "choose another name, or omit it")


def checked_name(name: str) -> str:
    """Return the name. Raises AzureError if it cannot be the name of a job."""
    if not _NAME.fullmatch(name):
        raise AzureError(f"{name!r} cannot be the name of a job", "use letters, digits, '_' and '-', at most 255")
    return name
