"""Predictions of a published model, one image a request; those of an interrupted run are not asked for again."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
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
    """Ask for a prediction of a model that does not exist: whoever may predict is told that, and pays nothing.

    Args:
        client: Of the account that predicts.

    Raises:
        VisionError: it is not the address of such an account, or the key or the sign-in is not accepted.
    """
    try:
        client.call("POST", f"{UUID(int=0)}/classify/iterations/none/image/nostore", body=b"")
    except VisionError as error:
        # The bare code is that of the gateway, which has let nobody in.
        if error.code == "BadRequest" or not error.code.startswith(("NotFound", "BadRequest")):
            raise


class PredictionRow(LogRow):
    """What a model said of an image.

    Attributes:
        path: Names the model.
        sha256: Of the file.
        row: Probabilities by the classes.
        ms: Milliseconds that the request took.
    """

    path: str
    sha256: str
    row: list[float]
    ms: float


class ImagePredictions:
    """Predicts images by one model.

    Args:
        client: Of the account that predicts.
        project: Id of the project.
        published: Name of the model.
        tags: Ids of the tags, in the order of the columns.
        log: What was predicted.
        payloads: Reads the files.
        total: How many images are going to be predicted, in all calls of :meth:`run`.
        say: Shows progress.
    """

    def __init__(
        self,
        client: VisionClient,
        project: str,
        published: str,
        tags: Sequence[str],
        log: JsonLineLog[PredictionRow],
        payloads: ImagePayloads,
        total: int,
        say: Callable[[str], None],
    ) -> None:
        self._client, self._log, self._payloads, self._say = client, log, payloads, say
        self._path = f"{project}/classify/iterations/{published}/image/nostore"
        self._columns = {tag: column for column, tag in enumerate(tags)}
        self._earlier = {
            row.sha256: row for row in log.rows if row.path == self._path and len(row.row) == len(self._columns)
        }
        self._total, self._said = total, time.monotonic()
        self.round_trips_ms: list[float] = []
        """Of each prediction so far, without waits; of those of an interrupted run, too."""

    def run(self, files: Sequence[Path]) -> Probabilities:
        """Probabilities (N, C) of images.

        Raises:
            VisionError: the service refuses, or is not reached; what is predicted is kept.
            ImageError: a file cannot be decoded.
        """
        rows = np.empty((len(files), len(self._columns)), np.float32)
        for number, file in enumerate(files):
            rows[number] = self._predict(file)
            self._tell(len(self.round_trips_ms))
        return rows

    def _tell(self, done: int) -> None:
        now = time.monotonic()
        # Whoever asks again afterwards has them predicted beyond the total.
        if done == self._total or (done < self._total and now - self._said > _SAY_SECONDS):
            self._said = now
            self._say(f"predicted {done:,} of {counted(self._total, 'image')}")

    def _predict(self, file: Path) -> list[float]:
        digest = file_hash(file)
        # Once: who asks a second time wants to know how long it takes.
        row = self._earlier.pop(digest, None)
        if row is None:
            answer, milliseconds = self._client.timed_call("POST", self._path, self._payloads.read(file))
            row = PredictionRow(path=self._path, sha256=digest, row=self._normalised(answer, file), ms=milliseconds)
            self._log.add(row)
        self.round_trips_ms.append(row.ms)
        return row.row

    def _normalised(self, answer: Any, file: Path) -> list[float]:
        """The probabilities of the classes, which sum to 1; tags that are no class of ours are left out."""
        values = [0.0] * len(self._columns)
        for prediction in answer["predictions"]:
            if (column := self._columns.get(prediction["tagId"])) is not None:
                values[column] = float(prediction["probability"])
        total = sum(values)
        if not total > 0:
            raise VisionError(
                f"Custom Vision gives no class of {file} a probability",
                "remove what the benchmark made with `mlops benchmark clean`, then run it again",
            )
        return [value / total for value in values]
