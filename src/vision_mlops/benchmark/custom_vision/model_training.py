"""Trains a model of a project unless that has been done, waits for it, and publishes it for predictions."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from vision_mlops.benchmark.custom_vision.service_errors import (
    IS_PUBLISHED,
    TOO_MANY_ITERATIONS,
    TRAINING_IN_PROGRESS,
    TRAINING_NOT_NEEDED,
    VisionError,
)
from vision_mlops.benchmark.custom_vision.vision_client import VisionClient
from vision_mlops.benchmark.custom_vision.vision_project import VisionProject
from vision_mlops.config.custom_vision_settings import CustomVisionSettings

Json = dict[str, Any]

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 30.0
_SAY_SECONDS = 60.0
_ENDED = frozenset({"Completed", "Failed"})


@dataclass(frozen=True)
class ModelTraining:
    """Trains one project.

    Args:
        client: Client of the account that trains.
        project: The project with all its images.
        settings: How to train, and the account to publish to.
        say: Gets progress messages.
        outdated: Ids of models that must not be used because a new training was requested.
    """

    client: VisionClient
    project: VisionProject
    settings: CustomVisionSettings
    say: Callable[[str], None]
    outdated: Collection[str] = ()

    @property
    def _kind(self) -> tuple[str, int]:
        return ("Advanced", self.settings.hours) if self.settings.training == "advanced" else ("Regular", 0)

    def begin(self, known: str) -> Json:
        """Return a model that is trained or in training: that of an interrupted run, or of the same images, if there is one.

        Args:
            known: Id of the model whose training an earlier run started; empty if there is none.

        Raises:
            VisionError: the service refuses.
        """
        found = next((row for row in self.project.iterations() if row["id"] == known), None)
        if found and found["status"] != "Failed":
            return found
        made: Json = self.client.found_or_made(self._in_training, self._train)
        return made

    def _in_training(self) -> Json | None:
        """Return the model in training, after waiting for others: a project trains one model at a time."""
        while True:
            busy = next((row for row in self.project.iterations() if _is_in_training(row)), None)
            if busy is None or self._is_wanted(busy):
                return busy
            self.say(f"waiting for the training of {busy['name']} to end: a project trains one model at a time")
            self.wait(busy)

    def _train(self, *, force: bool = False) -> Json:
        kind, hours = self._kind
        query = {"trainingType": kind, "forceTrain": "true" if force else "false"}
        if hours:
            query["reservedBudgetInHours"] = str(hours)
        try:
            begun: Json = self.client.call("POST", f"{self.project.path}/train", query=query, body={}, repeatable=False)
        except VisionError as error:
            if error.code in TRAINING_NOT_NEEDED:
                return self._trained_before() or self._train(force=True)
            if error.code == TRAINING_IN_PROGRESS and (running := self._in_training()):
                return running
            if error.code == TOO_MANY_ITERATIONS and self._made_room():
                return self._train(force=force)
            raise
        self.say(f"training a model in Custom Vision: {self.settings.training}")
        return begun

    def _trained_before(self) -> Json | None:
        """Return the newest model of the wanted kind; the images have not changed since the last training."""
        rows = self.project.iterations()
        found = next((row for row in rows if row["status"] == "Completed" and self._is_wanted(row)), None)
        if found:
            self.say(f"the images have not changed since {found['name']} was trained, which is used")
        return found

    def _made_room(self) -> bool:
        """Delete the oldest unused model; returns False if all are published."""
        rows = [row for row in self.project.iterations() if row["status"] in _ENDED and not row.get("publishName")]
        if rows:
            self.say(f"the project has reached its limit of models: deleting the oldest, {rows[-1]['name']}")
            self.project.delete_iteration(rows[-1])
        return bool(rows)

    def _is_wanted(self, row: Json) -> bool:
        kind, hours = self._kind
        if row["id"] in self.outdated:
            return False
        return row.get("trainingType") == kind and (not hours or row.get("reservedBudgetInHours") == hours)

    def wait(self, iteration: Json) -> Json:
        """Wait until the training has ended, however long that takes, and return the model.

        Raises:
            VisionError: it failed, or the model no longer exists.
        """
        pause, begun, said = _FIRST_PAUSE_S, time.monotonic(), time.monotonic()
        while iteration["status"] not in _ENDED:
            time.sleep(pause)
            pause = min(1.5 * pause, _LONGEST_PAUSE_S)
            iteration = self.client.call("GET", f"{self.project.path}/iterations/{iteration['id']}")
            if time.monotonic() - said > _SAY_SECONDS:
                said = time.monotonic()
                self.say(f"{iteration['name']} has been in training for {(said - begun) / 60:.0f} minutes")
        if iteration["status"] == "Failed":
            raise VisionError(
                f"the training of {iteration['name']} of the project {self.project.name} failed",
                "run the same command again, which trains again; the portal of Custom Vision may say why it failed",
            )
        return iteration

    def publish(self, iteration: Json) -> str:
        """Publish a model, and return its name for predictions. Raises VisionError."""
        path, target = f"{self.project.path}/iterations/{iteration['id']}", self.settings.prediction_id
        if iteration.get("publishName"):
            if str(iteration.get("originalPublishResourceId")).lower() == target.lower():
                return str(iteration["publishName"])
            self.client.call("DELETE", f"{path}/publish")
        name = f"benchmark-{iteration['id'][:8]}"
        query = {"publishName": name, "predictionId": target, "overwrite": "true"}
        try:
            self.client.call("POST", f"{path}/publish", query=query)
        except VisionError as error:
            if error.code != IS_PUBLISHED:  # by a call whose response was lost
                raise
        return name


def _is_in_training(row: Json) -> bool:
    # Images that no model has been trained on yet are listed as a model with the status "New".
    return row["status"] not in _ENDED and row["status"] != "New"
