"""Predictions of a published model, one image a request; those of an interrupted run are not asked for again."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vision_mlops.benchmark.contestant import Probabilities
from vision_mlops.benchmark.custom_vision.image_payloads import ImagePayloads
from vision_mlops.benchmark.custom_vision.json_line_log import JsonLineLog
from vision_mlops.benchmark.custom_vision.service_errors import VisionError
from vision_mlops.benchmark.custom_vision.vision_client import VisionClient
from vision_mlops.core.hashing import file_hash
from vision_mlops.core.text import counted

_SAY_SECONDS = 10.0


class ImagePredictions:
    """Predicts images by one model.

    Args:
        client: Of the account that predicts.
        project: Id of the project.
        published: Name of the model.
        tags: Ids of the tags, in the order of the columns.
        log: What was predicted.
        say: Shows progress.
    """

    def __init__(
        self,
        client: VisionClient,
        project: str,
        published: str,
        tags: Sequence[str],
        log: JsonLineLog,
        payloads: ImagePayloads,
        say: Callable[[str], None],
    ) -> None:
        self._client, self._log, self._payloads, self._say = client, log, payloads, say
        self._path = f"{project}/classify/iterations/{published}/image/nostore"
        self._columns = {tag: column for column, tag in enumerate(tags)}
        self._earlier = {row["sha256"]: row for row in log.rows if row["path"] == self._path}
        self.round_trips_ms: list[float] = []
        """Of each prediction so far, without waits; of those of an interrupted run, too."""

    def run(self, files: Sequence[Path]) -> Probabilities:
        """Probabilities (N, C) of images.

        Raises:
            VisionError: the service refuses, or is not reached; what is predicted is kept.
            ImageError: a file cannot be decoded.
        """
        rows = np.empty((len(files), len(self._columns)), np.float32)
        said = time.monotonic()
        for number, file in enumerate(files):
            rows[number] = self._predict(file)
            if time.monotonic() - said > _SAY_SECONDS:
                said = time.monotonic()
                self._say(f"predicted {number + 1:,} of {counted(len(files), 'image')}")
        return rows

    def _predict(self, file: Path) -> list[float]:
        digest = file_hash(file)
        # Once: who asks a second time wants to know how long it takes.
        row = self._earlier.pop(digest, None)
        if row is None:
            answer, milliseconds = self._client.timed_call("POST", self._path, self._payloads.read(file))
            row = {"path": self._path, "sha256": digest, "row": self._normalised(answer, file), "ms": milliseconds}
            self._log.add(row)
        self.round_trips_ms.append(row["ms"])
        probabilities: list[float] = row["row"]
        return probabilities

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
