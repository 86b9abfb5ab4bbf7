"""Predictions of a published model, one image per request; those of an interrupted run are not requested again."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np

from vision_mlops.benchmark.contestant import Probabilities
from vision_mlops.benchmark.custom_vision.image_payloads import ImagePayloads
from vision_mlops.benchmark.custom_vision.json_line_log import JsonLineLog, LogRow
from vision_mlops.benchmark.custom_vision.service_errors import VisionError
from vision_mlops.benchmark.custom_vision.vision_client import VisionClient
from vision_mlops.core.hashing import file_hash
from vision_mlops.core.text import counted

_SAY_SECONDS = 10.0


def check_access(client: VisionClient) -> None:
    """Request a prediction of a model that does not exist: those who may predict get that error, and pay nothing.

    Args:
        client: Client of the account that predicts.

    Raises:
        VisionError: it is not the address of such an account, or the key or the sign-in is not accepted.
    """
    try:
        client.call("POST", f"{UUID(int=0)}/classify/iterations/none/image/nostore", body=b"")
    except VisionError as error:
        # The code without a suffix comes from the gateway, which has refused access.
        if error.code == "BadRequest" or not error.code.startswith(("NotFound", "BadRequest")):
            raise


class PredictionRow(LogRow):
    """The prediction of a model for an image.

    Attributes:
        path: Path of the model.
        sha256: SHA-256 of the file.
        row: Probabilities of the classes.
        ms: Duration of the request in milliseconds.
    """

    path: str
    sha256: str
    row: list[float]
    ms: float


@dataclass
class ImagePredictions:
    """Predicts images with one model.

    Args:
        client: Client of the account that predicts.
        project: Id of the project.
        published: Name of the model.
        tags: Ids of the tags, in the order of the columns.
        log: Log of predictions.
        payloads: Reads the files.
        total: Number of images in all calls of :meth:`run`.
        say: Gets progress messages.

    Attributes:
        round_trips_ms: Round trips of all predictions so far, including those of an interrupted run, without waits.
    """

    client: VisionClient
    project: str
    published: str
    tags: Sequence[str]
    log: JsonLineLog[PredictionRow]
    payloads: ImagePayloads
    total: int
    say: Callable[[str], None]
    round_trips_ms: list[float] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        self._path = f"{self.project}/classify/iterations/{self.published}/image/nostore"
        self._columns = {tag: column for column, tag in enumerate(self.tags)}
        of_model = [row for row in self.log.rows if row.path == self._path and len(row.row) == len(self.tags)]
        self._earlier = {row.sha256: row for row in of_model}
        self._said = time.monotonic()

    def run(self, files: Sequence[Path]) -> Probabilities:
        """Predict images: probabilities (N, C).

        Raises:
            VisionError: the service refuses, or cannot be reached; predictions so far are kept.
            ImageError: a file cannot be decoded.
        """
        rows = np.empty((len(files), len(self._columns)), np.float32)
        for number, file in enumerate(files):
            rows[number] = self._predict(file)
            self._tell(len(self.round_trips_ms))
        return rows

    def _tell(self, done: int) -> None:
        now = time.monotonic()
        # Repeated predictions go beyond the total.
        if done == self.total or (done < self.total and now - self._said > _SAY_SECONDS):
            self._said = now
            self.say(f"predicted {done:,} of {counted(self.total, 'image')}")

    def _predict(self, file: Path) -> list[float]:
        digest = file_hash(file)
        # Only once, because a second prediction is made to measure its duration.
        row = self._earlier.pop(digest, None)
        if row is None:
            answer, milliseconds = self.client.timed_call("POST", self._path, self.payloads.read(file))
            row = PredictionRow(path=self._path, sha256=digest, row=self._normalised(answer, file), ms=milliseconds)
            self.log.add(row)
        self.round_trips_ms.append(row.ms)
        return row.row

    def _normalised(self, answer: Any, file: Path) -> list[float]:
        """Return the probabilities of the classes, normalised to a sum of 1, without tags that are not a class."""
        values = [0.0] * len(self._columns)
        for prediction in answer["predictions"]:
            if (column := self._columns.get(prediction["tagId"])) is not None:
                values[column] = float(prediction["probability"])
        total = sum(values)
        if not total > 0:
            raise VisionError(
                f"Custom Vision returns no probability for any class of {file}",
                "remove what the benchmark created with `mlops benchmark clean`, then run it again",
            )
        return [value / total for value in values]
