"""The AutoML job of a benchmark: its definition, its submission, how it ended, and the model that it leaves."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from vision_mlops import storage
from vision_mlops.azure.azure_errors import azure_errors
from vision_mlops.azure.clients import quiet
from vision_mlops.azure.made_tags import made_tags
from vision_mlops.benchmark.automl.onnx_classifier import CROP, LABELS, MODEL, RESIZE
from vision_mlops.benchmark.automl.training_tables import LABEL, TrainingTables
from vision_mlops.benchmark.contestant import Task
from vision_mlops.config.azure_settings import AzureSettings
from vision_mlops.core.errors import AzureError, ConfigError
from vision_mlops.core.files import atomic_folder, atomic_write
from vision_mlops.core.yaml_text import write_yaml
from vision_mlops.jobs.azureml import azure_jobs
from vision_mlops.jobs.azureml.azure_records import JobRecord
from vision_mlops.jobs.azureml.job_resources import ensure_compute, existing
from vision_mlops.jobs.azureml.run_history import RunHistory
from vision_mlops.storage.attempts import FileError
from vision_mlops.storage.blob_service import BlobService

if TYPE_CHECKING:
    from azure.ai.ml import MLClient

METRIC = "accuracy"
TRIALS = 1
_SCHEMA = "https://azuremlschemas.azureedge.net/latest/autoMLJob.schema.json"
_BEST = "automl_best_child_run_id"  # tag of the job's run in MLflow, by Microsoft's documentation
_ARTIFACTS = "azureml://datastores/workspaceartifactstore/paths/ExperimentRun/dcid.{}/train_artifacts"


def machine_of(client: MLClient, settings: AzureSettings, task: Task) -> str:
    """Return the machine size of the GPU cluster, and create the cluster if it does not exist.

    Raises:
        ConfigError: no such cluster is set, and there is none.
        AzureError: it cannot be made; there is no quota, say.
    """
    cluster = settings.gpu
    with azure_errors(f"compute cluster {cluster.name!r}"):
        found = existing(lambda: client.compute.get(cluster.name))
    if found is None:
        if not settings.gpu_is_set:
            raise ConfigError(
                "AutoML for images trains on GPUs, but no GPU cluster is set, and the workspace has no cluster"
                f" {cluster.name!r}",
                "set MLOPS_AZURE_GPU_CLUSTER=gpu-cluster, and MLOPS_AZURE_GPU_SKU for another size than"
                f" {cluster.sku}; the cluster is then created",
            )
        ensure_compute(client, cluster, task.say)
    return str(getattr(found, "size", None) or cluster.sku)


def write_definition(settings: AzureSettings, task: Task, tables: TrainingTables) -> Path:
    """Write the job as Azure ML v2 YAML into the folder of the task; `mlops job run FILE --on azure` takes it, too."""
    content: dict[str, Any] = {
        "$schema": _SCHEMA,
        "type": "automl",
        "task": "image_classification",
        "display_name": f"AutoML for images: {task.workload.name}",
        "experiment_name": f"{task.workload.name}-benchmark",
        "compute": settings.gpu.reference,
        "primary_metric": METRIC,
        "target_column_name": LABEL,
        "training_data": {"type": "mltable", "path": tables.training},
        "validation_data": {"type": "mltable", "path": tables.validation},
        "limits": {
            "timeout_minutes": settings.automl_timeout_minutes,
            "max_trials": TRIALS,
            "max_concurrent_trials": TRIALS,
        },
        "training_parameters": {
            "model_name": settings.automl_model,
            "training_crop_size": CROP,
            "validation_crop_size": CROP,
            "validation_resize_size": RESIZE,
        },
    }
    file = task.folder / "job.yml"
    atomic_write(file, write_yaml(content))
    return file


def submit(client: MLClient, settings: AzureSettings, task: Task, name: str, tables: TrainingTables) -> None:
    """Submit the job under a name, unless it was submitted before.

    Raises:
        AzureError: the service refuses.
        PipelineError: the definition has errors.
    """
    if azure_jobs.find_job(client, name) is not None:
        task.say(f"the job {name} was submitted earlier")
        return
    tags = made_tags(task.workload.name)
    file = write_definition(settings, task, tables)
    record = azure_jobs.submit(file, (), settings, name, tags=tags, client=client, say=task.say)
    task.say(f"job {record.name} trains {settings.automl_model} on {settings.gpu.name}")


def failure(client: MLClient, job: JobRecord) -> AzureError:
    """Return the error of a job that did not succeed."""
    why = RunHistory(client).reason(job.name) if job.status == "Failed" else ""
    return AzureError(
        f"the AutoML job {job.name} is {job.status}" + (f": {why}" if why else ""),
        f"see {job.studio_url or 'Azure ML studio'}; the next run submits another job",
    )


def best_trial(client: MLClient, settings: AzureSettings, job: str) -> str:
    """Return the run of a job that trained the best network. Raises AzureError if the job names none."""
    best = azure_jobs.tracked(client, settings, job).tags.get(_BEST, "")
    if not best:
        raise AzureError(
            f"the AutoML job {job} does not name its best trial (tag {_BEST})", "see the job in Azure ML studio"
        )
    return best


def fetch_model(client: MLClient, settings: AzureSettings, run: str, out: Path) -> None:
    """Download the network of a trial to a folder, which must not exist.

    Raises:
        AzureError: the trial left none, or the service refuses.
    """
    address = _ARTIFACTS.format(run)
    reading = BlobService(storage.locate(address, settings, client=client))
    try:
        there = dict(reading.files())
        with atomic_folder(out) as folder:
            for name in (LABELS, MODEL):
                if name not in there:
                    has = ", ".join(sorted(there)) or "nothing"
                    raise AzureError(f"the run {run} left no {name} in {address}", f"it has: {has}")
                reading.fetch(name, there[name], folder / name)
    except FileError as error:
        raise AzureError(f"the network in {address} cannot be downloaded: {error}", "run again") from error
    finally:
        reading.close()


def put_away(client: MLClient, settings: AzureSettings, job: str, task: Task) -> None:
    """Cancel a job that runs, and archive it: the SDK deletes no jobs. Raises AzureError."""
    if azure_jobs.find_job(client, job) is None:
        return
    azure_jobs.cancel(client, job)
    with azure_errors(f"job {job!r}"), quiet():
        client.jobs.archive(job)
    task.say(f"job {job} is archived; its record, logs and model stay in the workspace")
