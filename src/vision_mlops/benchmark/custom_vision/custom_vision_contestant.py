"""The contestant ``custom-vision``: uploads the training images to Azure Custom Vision, trains and publishes a model."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from vision_mlops.benchmark.contestant import Contestant, Probabilities, Task, Usage
from vision_mlops.benchmark.custom_vision.call_limiter import limiter_of
from vision_mlops.benchmark.custom_vision.image_payloads import PREDICTION_BYTES, TRAINING_BYTES, ImagePayloads
from vision_mlops.benchmark.custom_vision.image_predictions import ImagePredictions, PredictionRow, check_access
from vision_mlops.benchmark.custom_vision.image_upload import ImageUpload, TrainingImage, UploadRow
from vision_mlops.benchmark.custom_vision.json_line_log import JsonLineLog, Row
from vision_mlops.benchmark.custom_vision.model_training import ModelTraining
from vision_mlops.benchmark.custom_vision.service_account import ServiceAccount, accounts_of
from vision_mlops.benchmark.custom_vision.service_errors import VisionError
from vision_mlops.benchmark.custom_vision.sku_limits import LIMITS, check_sizes, prediction_warning
from vision_mlops.benchmark.custom_vision.vision_client import VisionClient
from vision_mlops.benchmark.custom_vision.vision_project import KeptWork, VisionProject, project_name, tag_names
from vision_mlops.config.custom_vision_settings import PREFIX, TRAINING_ENDPOINT, CustomVisionSettings
from vision_mlops.core.errors import ConfigError, DataError, MlopsError
from vision_mlops.core.text import counted, few
from vision_mlops.data.manifest import ImageRecord

_COUNT_PAUSES_S = (1.0, 2.0, 4.0)
"""The service may take a little while to count new images."""


class CustomVision(Contestant):
    """Azure Custom Vision.

    Args:
        task: What to learn. Its folder records what was uploaded, trained and predicted, to continue an interrupted run.

    Raises:
        ConfigError: a setting of Custom Vision is missing or malformed.
    """

    name: ClassVar[str] = "custom-vision"
    title: ClassVar[str] = "Azure Custom Vision"
    hosted: ClassVar[bool] = True

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self._settings = CustomVisionSettings.load()
        self._images: list[ImageRecord] = []
        self._stored = 0
        self._iteration: dict[str, Any] = {}
        self._predictions: ImagePredictions | None = None

    def settings(self) -> Mapping[str, Any]:
        """Return the domain, and the kind and length of the training."""
        chosen = self._settings
        hours = {"hours": chosen.hours} if chosen.training == "advanced" else {}
        return {"domain": chosen.domain, "training": chosen.training, **hours}

    def fit(self) -> None:
        """Upload, train and publish, as far as that has not been done yet.

        Raises:
            DataError: the service cannot use the data: too few or too many images or classes, or a broken image.
            ConfigError: the domain does not exist, or an earlier run has created the project in another account.
            VisionError: the service refuses, or cannot be reached.
        """
        task, manifest = self.task, self.task.manifest
        known = self._kept_here()
        self._images = self._different_images()
        images = Counter(record.label for record in self._images)
        check_sizes(self._settings.sku, {label: images[label] for label in manifest.classes})
        self._tell_of_predictions()
        about = f"vision-mlops benchmark of {task.workload.name}, data {manifest.fingerprint}"
        project, is_new = VisionProject.find_or_make(
            self._training_client, self._project_name, about, self._settings.domain
        )
        task.say(f"Custom Vision: the project {project.name} {'is new' if is_new else 'exists'}")
        kept = self._keep(project, known)
        if not kept.iteration:
            check_access(self._prediction_client)
        tags = project.tags(tag_names(manifest.classes))
        self._upload(project, tags)
        published = self._train(project, kept)
        self._predictions = ImagePredictions(
            self._prediction_client,
            project.id,
            published,
            tags,
            self._log("predictions.jsonl", PredictionRow),
            ImagePayloads(PREDICTION_BYTES),
            len(manifest.of_split("test")),
            task.say,
        )

    def predict(self, files: Sequence[Path]) -> Probabilities:
        """Predict with the published model, one image per request, within the calls per second of the SKU.

        Raises:
            VisionError: the service refuses, or cannot be reached; the next run continues with what is missing.
            ImageError: a file cannot be decoded.
        """
        if self._predictions is None:
            raise MlopsError("custom-vision is not trained yet", "call fit() first")
        return self._predictions.run(files)

    def usage(self) -> Usage:
        """Return hours of training, a month of storage per image, and single predictions. Some are free with F0."""
        return Usage(
            training={
                "custom_vision_training_hour": float(self._iteration.get("trainingTimeInMinutes") or 0) / 60,
                "custom_vision_stored_image_month": float(self._stored),
            },
            per_prediction={"custom_vision_prediction": 1.0},
        )

    def training_seconds(self) -> float | None:
        """Return the training time that the service reports, in whole minutes; None if it does not report any."""
        minutes = self._iteration.get("trainingTimeInMinutes")
        return 60.0 * float(minutes) if minutes else None

    def round_trips_ms(self) -> Sequence[float]:
        """Return the round trip of each prediction, without waits for the calls per second of the SKU."""
        return self._predictions.round_trips_ms if self._predictions else ()

    def remark(self) -> str:
        """Describe the training."""
        chosen = self._settings
        return f"domain {chosen.domain}, {chosen.training} training"

    def clean_up(self) -> None:
        """Unpublish and delete the models and the project with its images.

        Raises:
            ConfigError: the project is in another account than that of the settings.
            DataError: the record of the run is damaged, and the project cannot be found without it.
            VisionError: the service refuses, or cannot be reached.
        """
        kept, damage = None, None
        try:
            kept = self._kept_here()
        except DataError as error:
            damage = error
        # The name of the project that was created: the settings may have another domain by now.
        name = kept.name if kept else self._project_name
        project = VisionProject.find(self._training_client, name)
        if project is None and damage:
            raise DataError(
                f"{damage.message}; the account at {self._accounts[0].endpoint} has no project {name}",
                f"if the run was made with another account or domain, set {TRAINING_ENDPOINT} and {PREFIX}DOMAIN to them;"
                f" if the project no longer exists, remove {KeptWork.path(self.task.folder)}",
            )
        if project is None:
            self.task.say(f"Custom Vision has no project {name}")
            return
        project.delete(self.task.say)

    @cached_property
    def _project_name(self) -> str:
        return project_name(self.task.workload.name, self.task.manifest.fingerprint, self._settings.domain)

    @cached_property
    def _accounts(self) -> tuple[ServiceAccount, ServiceAccount]:
        return accounts_of(self._settings, self.task.workload.name)

    @cached_property
    def _training_client(self) -> VisionClient:
        return self._client(self._accounts[0])

    @cached_property
    def _prediction_client(self) -> VisionClient:
        return self._client(self._accounts[1])

    def _client(self, account: ServiceAccount) -> VisionClient:
        limiter = limiter_of(account.endpoint, LIMITS[self._settings.sku].per_second)
        return VisionClient(account, limiter, self.task.say)

    def _log(self, name: str, kind: type[Row]) -> JsonLineLog[Row]:
        """Return the log of earlier runs, as far as it can be read."""
        path = self.task.folder / name
        log = JsonLineLog(path, kind)
        if log.damaged:
            self.task.say(
                f"warning: removed {counted(log.damaged, 'damaged line')} from {path}; the service is asked again for"
                " their content"
            )
        return log

    def _different_images(self) -> list[ImageRecord]:
        """Return training images without duplicates, which the service would not store."""
        kept: dict[str, ImageRecord] = {}
        conflicts = []
        for record in self.task.manifest.of_split("train"):
            first = kept.setdefault(record.sha256, record)
            if first.label != record.label:
                conflicts.append(f"{record.path} (uploaded as {first.path})")
        if conflicts:
            self.task.say(f"warning: images in two classes are only uploaded for one of them: {few(conflicts)}")
        return list(kept.values())

    def _tell_of_predictions(self) -> None:
        """Give warnings about the test images before anything is paid for."""
        files = self.task.images("test").files
        if warning := prediction_warning(self._settings.sku, len(files)):
            self.task.say(warning)
        if large := sum(file.stat().st_size > PREDICTION_BYTES for file in files):
            self.task.say(
                f"{counted(large, 'test image')} above {PREDICTION_BYTES / 1e6:g} MB will be reduced in size for the service"
            )

    def _kept_here(self) -> KeptWork | None:
        """Return the record of an earlier run.

        Raises:
            ConfigError: its project, which may cost money, is in another account than that of the settings.
            DataError: the record is damaged.
        """
        kept, here = KeptWork.read(self.task.folder), self._accounts[0].endpoint
        if kept and kept.endpoint.lower() != here.lower():
            raise ConfigError(
                f"the project {kept.name} of Custom Vision is in the account at {kept.endpoint}, and {TRAINING_ENDPOINT} is"
                f" {here}",
                f"set {TRAINING_ENDPOINT} to the former to continue, or to remove the project before you use another"
                f" account: mlops benchmark clean --workload {self.task.workload.name} --with {self.name}; if the account"
                f" no longer exists, remove {KeptWork.path(self.task.folder)}",
            )
        return kept

    def _keep(self, project: VisionProject, known: KeptWork | None) -> KeptWork:
        """Record the project; the record of another one, which was deleted, is discarded."""
        again = self.task.again
        if known and known.project == project.id and not again:
            return known
        # Only the first attempt is asked to train again; later attempts know from the record which models not to use.
        outdated = tuple(str(row["id"]) for row in project.iterations()) if again else ()
        kept = KeptWork(endpoint=self._accounts[0].endpoint, project=project.id, name=project.name, outdated=outdated)
        kept.write(self.task.folder)
        return kept

    def _upload(self, project: VisionProject, tags: Sequence[str]) -> None:
        """Upload missing images, and verify that the project has exactly the right ones."""
        task = self.task
        tag_of = dict(zip(task.manifest.classes, tags, strict=True))
        images = [
            TrainingImage(task.data / record.path, record.sha256, tag_of[record.label]) for record in self._images
        ]
        log, payloads = self._log("uploads.jsonl", UploadRow), ImagePayloads(TRAINING_BYTES)
        upload = ImageUpload(self._training_client, project.id, log, payloads, task.say)
        if project.counts() != upload.counts(images) and not (
            upload.run(images) and _counts_become(project, upload.counts(images))
        ):
            # Somebody may have deleted images in the portal: upload all, and the service keeps those that are missing.
            log.clear()
            upload.run(images)
            if not _counts_become(project, upload.counts(images)):
                raise _other_images(project, tag_of, upload.counts(images))
        self._stored = sum(upload.counts(images).values())
        if told := payloads.told():
            task.say(told)
        if others := [str(image.file) for image in upload.under_other_tags(images)]:
            task.say(
                "warning: images whose uploaded content equals that of an image of another class are learned for that class"
                f" only: {few(others)}"
            )

    def _train(self, project: VisionProject, kept: KeptWork) -> str:
        """Train, unless an earlier run has, and publish; returns the name of the model for predictions."""
        training = ModelTraining(self._training_client, project, self._settings, self.task.say, kept.outdated)
        iteration = training.begin(kept.iteration)
        kept.model_copy(update={"iteration": str(iteration["id"])}).write(self.task.folder)
        self._iteration = training.wait(iteration)
        return training.publish(self._iteration)


def _other_images(project: VisionProject, tag_of: Mapping[str, str], wanted: Mapping[str, int]) -> VisionError:
    there = project.counts()
    differing = [
        f"{label!r} has {there.get(tag, 0):,} images there and {wanted[tag]:,} in the data"
        for label, tag in tag_of.items()
        if there.get(tag, 0) != wanted[tag]
    ]
    return VisionError(
        f"the project {project.name} of Custom Vision has other images than the data:"
        f" {few(differing, '; ') or 'it has further tags'}",
        "remove the project with `mlops benchmark clean`, then run the benchmark again",
    )


def _counts_become(project: VisionProject, wanted: Mapping[str, int]) -> bool:
    """Return whether the tags of a project have the wanted numbers of images, now or a little later."""
    for pause in _COUNT_PAUSES_S:
        if project.counts() == wanted:
            return True
        time.sleep(pause)
    return project.counts() == wanted
