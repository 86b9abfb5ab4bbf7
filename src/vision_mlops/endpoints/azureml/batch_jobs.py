"""Scores a folder of images at a batch endpoint: uploads it, follows the job, and downloads its table."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from vision_mlops.azure.azure_errors import azure_errors
from vision_mlops.azure.clients import quiet
from vision_mlops.core.errors import AzureError, DeploymentError
from vision_mlops.core.files import atomic_write
from vision_mlops.endpoints.azureml.azureml_workspace import Workspace
from vision_mlops.endpoints.azureml.batch_target import BatchTarget
from vision_mlops.endpoints.contract import Say
from vision_mlops.jobs.azureml.azure_jobs import new_name, stream, told_on_interrupt
from vision_mlops.jobs.azureml.azure_records import JobRecord, job_record
from vision_mlops.jobs.azureml.job_resources import ensure_data
from vision_mlops.jobs.azureml.run_history import RunHistory

_REMOTE = ("azureml:", "azureml://", "https://", "wasbs://", "abfss://")
_OUTPUT = "score"
"""Name of the output of a batch scoring job, according to the documentation of the service."""


@dataclass(frozen=True)
class BatchScores:
    """A scoring job, and the file with its rows; None if the job was only started."""

    job: JobRecord
    file: Path | None = None


def score_on_azure(
    endpoint: str,
    source: str,
    out: Path,
    *,
    deployment: str = "",
    wait: bool = True,
    workspace: Workspace | None = None,
    on_line: Say = lambda text: None,
    poll_seconds: tuple[float, float] = (2.0, 20.0),
) -> BatchScores:
    """Score a folder of images with a batch endpoint that `mlops deploy --to batch` created.

    Args:
        endpoint: Name of the batch endpoint.
        source: A folder on this machine, which becomes a data asset unless the same content is one already,
            ``azureml:NAME:VERSION``, or the address of a folder in storage.
        out: File to write, one line of JSON per image, as from ``jobs/pipelines/batch/score_batch.py``.
            Must not exist.
        deployment: Another deployment than the default one.
        wait: Follow the job to its end and download; else the job is only started, and ``out`` is not written.
        workspace: Workspace; that of the settings if not given.
        on_line: Gets messages about uploads, and the states and log lines of the job.
        poll_seconds: See :func:`vision_mlops.jobs.azureml.azure_jobs.stream`.

    Raises:
        DeploymentError: the deployment does not exist, none is the default, or ``out`` exists.
        PipelineError: the local folder cannot be read, or is empty.
        AzureError: the service refuses, or the job failed.
        KeyboardInterrupt: on Ctrl-C; the job continues, and ``on_line`` has got a message how to stop it.
    """
    if out.exists():
        raise DeploymentError(f"{out} exists already", "choose another --out, or remove it")
    place = workspace or Workspace()
    found = BatchTarget(place).endpoint(endpoint)
    chosen = found.deployment(deployment) if deployment else found.serving
    if chosen is None:
        raise DeploymentError(f"endpoint {endpoint!r} has no default deployment", "mlops deploy --to batch --help")
    path = source
    if not source.startswith(_REMOTE):
        reference = ensure_data(
            place.client, place.settings, Path(source).expanduser().resolve(), "uri_folder", on_line
        )
        path = f"azureml:{reference}"
    name = new_name(endpoint)
    with told_on_interrupt(name, on_line, sent=False):
        job = _invoke(place, endpoint, chosen.name, path, name)
    if not wait:
        return BatchScores(job)
    with told_on_interrupt(job.name, on_line):
        on_line(f"job {job.name} scores {source} with {chosen.reference}")
        ended = stream(place.client, job.name, on_line=on_line, poll_seconds=poll_seconds)
    if ended.status != "Completed":
        hint = f"see its log: mlops job logs {job.name} --on azure"
        raise AzureError(f"job {job.name!r} of endpoint {endpoint!r} is {ended.status}", hint)
    _fetch(place, job.name, out)
    return BatchScores(ended, out)


def _invoke(workspace: Workspace, endpoint: str, deployment: str, path: str, name: str) -> JobRecord:
    from azure.ai.ml import Input

    client = workspace.client
    with azure_errors(f"endpoint {endpoint!r}"), quiet():
        # The name is chosen here, so that a repeated call does not start a second job. The deployment is
        # always named: the SDK keeps the name of one call in a header and sends it with the next one that names none.
        started = client.batch_endpoints.invoke(
            endpoint_name=endpoint,
            deployment_name=deployment,
            input=Input(type="uri_folder", path=path),
            job_name=name,
        )
        return job_record(client.jobs.get(str(started.name)))


def _fetch(workspace: Workspace, job: str, out: Path) -> None:
    """Download the table completely or not at all. It is the output of the scoring step."""
    steps = RunHistory(workspace.client).steps(job)
    if not steps:
        raise AzureError(f"job {job!r} has no step, so no output", f"mlops job logs {job} --on azure")
    with tempfile.TemporaryDirectory(prefix="mlops-") as temporary:
        with azure_errors(f"output of job {job!r}"), quiet():
            workspace.client.jobs.download(steps[-1].name, download_path=temporary, output_name=_OUTPUT)
        files = sorted(path for path in Path(temporary).rglob("*") if path.is_file())
        if len(files) != 1:
            raise AzureError(f"job {job!r} wrote {len(files)} files, not one", f"mlops job download {job} --out FOLDER")
        atomic_write(out, files[0].read_text(encoding="utf-8"))
