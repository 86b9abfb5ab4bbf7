"""The contestant ``automl-images``: the training images are given to Azure ML's AutoML, and its network is judged here.

It was never run on Azure itself. The names of artifacts, tags and files are those of Microsoft's documentation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from vision_mlops import storage
from vision_mlops.azure.clients import check_workspace, ml_client
from vision_mlops.benchmark.automl import automl_job
from vision_mlops.benchmark.automl.onnx_classifier import CROP, MODEL, RESIZE, OnnxClassifier
from vision_mlops.benchmark.automl.training_tables import TrainingTables, upload_tables, uploads_of
from vision_mlops.benchmark.contestant import Contestant, Probabilities, Task, Usage
from vision_mlops.benchmark.service_record import ServiceRecord
from vision_mlops.config.azure_settings import AzureSettings
from vision_mlops.core.errors import AzureError, ConfigError, DataError, MlopsError
from vision_mlops.core.text import counted
from vision_mlops.jobs.azureml import azure_jobs

if TYPE_CHECKING:
    from azure.ai.ml import MLClient

_LEAST_IMAGES = 10  # that AutoML for images trains with, by its documentation


class KeptTraining(ServiceRecord):
    """The record of what was made in the workspace.

    Attributes:
        workspace: Resource id of the workspace that it is in.
        uploads: Folder in a datastore that images and tables were uploaded to; empty if nothing was uploaded.
        job: The job that trains, or will; empty if none was submitted, or the last one failed.
        jobs: All jobs that were submitted.
        machine: Size of the machines that train.
        seconds: Duration of the training; None before its end, and if the service does not report it.
    """

    file_name: ClassVar[str] = "automl.json"
    damage_hint: ClassVar[str] = "look for its jobs in Azure ML studio, and remove the file"
    workspace: str
    uploads: str = ""
    job: str = ""
    jobs: list[str] = Field(default_factory=list)
    machine: str = ""
    seconds: float | None = None


class AutomlImages(Contestant):
    """Azure ML's AutoML for images.

    Args:
        task: What to learn. Its folder keeps which job trains, and the network once it is there, for a run that is
            interrupted.

    Raises:
        ConfigError: a setting of the workspace is missing or malformed.
    """

    name: ClassVar[str] = "automl-images"
    title: ClassVar[str] = "Azure ML AutoML for images"
    poll_seconds: ClassVar[tuple[float, float]] = (2.0, 30.0)
    """Pause between two looks at the job: while something happens, and at most."""

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self._settings = AzureSettings.load()
        self._classifier: OnnxClassifier | None = None

    def settings(self) -> Mapping[str, Any]:
        """Return the network, the time limit of its training, and what it sees of an image."""
        chosen = self._settings
        return {
            "model": chosen.automl_model,
            "timeout_minutes": chosen.automl_timeout_minutes,
            "trials": automl_job.TRIALS,
            "resize": RESIZE,
            "crop": CROP,
        }

    def fit(self) -> None:
        """Upload, train and download, as far as that is not done yet.

        Raises:
            ConfigError: no cluster with graphics processors is set.
            DataError: there are too few images or classes.
            AzureError: the service refuses, is not reached, or the job has failed.
        """
        if not self._model.is_dir():
            self._check_data()
            check_workspace(self._client, self._settings)
            kept = self._kept() or KeptTraining(workspace=self._workspace)
            kept.machine = automl_job.machine_of(self._client, self._settings, self.task)
            kept.uploads = uploads_of(self.task, self._settings)
            kept.write(self.task.folder)
            self._train(kept)
        self._classifier = OnnxClassifier(self._model, self.task.manifest.classes)

    def predict(self, files: Sequence[Path]) -> Probabilities:
        """Compute probabilities with the trained network on this machine: the test images are not sent anywhere.

        Raises:
            ImageError: a file cannot be decoded.
        """
        if self._classifier is None:
            raise MlopsError(f"{self.name} is not trained yet", "call fit() first")
        return self._classifier.predict(files)

    def size_bytes(self) -> int | None:
        """Return the size of the ONNX graph."""
        file = self._model / MODEL
        return file.stat().st_size if file.is_file() else None

    def usage(self) -> Usage | None:
        """Return the machine hours of the training, without the minutes before and after it in which the machine is up."""
        kept = self._kept()
        if kept is None or kept.seconds is None:
            return Usage()
        return Usage(training={f"vm_hour.{kept.machine}": kept.seconds / 3600})

    def training_seconds(self) -> float | None:
        """Return how long the trial took on the cluster; None if the service does not say."""
        kept = self._kept()
        return kept.seconds if kept else None

    def remark(self) -> str:
        """Name the network, and where it was trained."""
        kept = self._kept()
        where = f" on {kept.machine}" if kept and kept.machine else ""
        return f"{self._settings.automl_model}, trained{where}; predicts on this machine"

    def clean_up(self) -> None:
        """Remove the uploaded images and tables, and archive the jobs; the cluster stays.

        Raises:
            ConfigError: it is in another workspace than that of the settings.
            AzureError: the service refuses, or is not reached.
        """
        kept = self._kept()
        if kept is None:
            return
        for job in kept.jobs:
            automl_job.put_away(self._client, self._settings, job, self.task)
        summary = storage.remove(storage.locate(kept.uploads, self._settings, client=self._client))
        if summary.failures:
            file, reason = next(iter(sorted(summary.failures.items())))
            raise AzureError(f"{summary.place}: {file} could not be removed: {reason}", "run again")
        self.task.say(f"{counted(summary.deleted.files, 'file')} removed from {kept.uploads}")
        self.task.say(f"the cluster {self._settings.gpu.name} is kept: `mlops down` lists its cost")

    @property
    def _model(self) -> Path:
        return self.task.folder / "model"

    @cached_property
    def _client(self) -> MLClient:
        return ml_client(self._settings)

    @property
    def _workspace(self) -> str:
        chosen = self._settings
        return f"{chosen.subscription_id}/{chosen.resource_group}/{chosen.workspace_name}"

    def _kept(self) -> KeptTraining | None:
        """Return what was begun. Raises ConfigError if that was in another workspace."""
        kept = KeptTraining.read(self.task.folder)
        if kept is not None and kept.workspace != self._workspace:
            subscription, group, name = kept.workspace.split("/")
            raise ConfigError(
                f"{self.name} was begun in the workspace {name!r} (resource group {group!r}, subscription {subscription})",
                "set AZURE_SUBSCRIPTION_ID, AZURE_RESOURCE_GROUP and AZUREML_WORKSPACE_NAME to that workspace;"
                " `mlops benchmark clean` removes what is there",
            )
        return kept

    def _check_data(self) -> None:
        """Refuse, before anything is paid for, what AutoML for images refuses."""
        images = self.task.manifest.of_split("train")
        classes = {record.label for record in images}
        if len(images) < _LEAST_IMAGES or len(classes) < 2:
            found = f"{counted(len(images), 'training image')} of {counted(len(classes), 'class', 'classes')}"
            raise DataError(
                f"the data has only {found}", f"AutoML for images needs {_LEAST_IMAGES} images of at least 2 classes"
            )

    def _train(self, kept: KeptTraining) -> None:
        """Run the job to its end, which may have been begun before, and download its network."""
        task, client, settings = self.task, self._client, self._settings
        tables: TrainingTables | None = None
        if not kept.job:
            tables = upload_tables(client, settings, task)
            kept.job = azure_jobs.new_name(f"automl-{task.workload.name}")
            kept.jobs.append(kept.job)
            # Before it is submitted: what is interrupted in between finds the job, or submits it under this name.
            kept.write(task.folder)
        elif azure_jobs.find_job(client, kept.job) is None:
            tables = upload_tables(client, settings, task)
        if tables is not None:
            automl_job.submit(client, settings, task, kept.job, tables)
        else:
            task.say(f"continuing with the job {kept.job}")
        ended = azure_jobs.stream(client, kept.job, on_line=task.say, poll_seconds=self.poll_seconds)
        if ended.status != "Completed":
            kept.job = ""
            kept.write(task.folder)
            raise automl_job.failure(client, ended)
        best = automl_job.best_trial(client, settings, kept.job)
        kept.seconds = azure_jobs.tracked(client, settings, best).seconds
        kept.write(task.folder)
        automl_job.fetch_model(client, settings, best, self._model)
