"""Iterations that are being trained: each in a thread, with the state of the project when training was requested."""

from __future__ import annotations

import json
import logging
import math
import sqlite3
import threading
import time

import numpy as np

from azureml_emulator.custom_vision.learning.tag_classifier import fit, judge, look_at
from azureml_emulator.custom_vision.vision_database import VisionDatabase, moment
from azureml_emulator.rest.rest_calls import Json

MINUTES = "training minutes"
"""Name under which the use of training is counted."""
_ADVANCED_VIEWS = 4
_AT_ONCE = 50
_LOG = logging.getLogger(__name__)


class Trainings:
    """Trains iterations.

    Args:
        database: Has the images, and gets the results.
    """

    def __init__(self, database: VisionDatabase) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._threads: dict[str, threading.Thread] = {}
        self._stopping = threading.Event()

    def start(self, iteration: str) -> None:
        """Train an iteration that is already kept."""
        with self._lock:
            self._threads = {name: thread for name, thread in self._threads.items() if thread.is_alive()}
            thread = threading.Thread(target=self._run, args=(iteration,), daemon=True, name=f"training {iteration}")
            self._threads[iteration] = thread
            thread.start()

    def resume(self) -> None:
        """Restart the trainings that were running when the emulator ended."""
        for row in self._database.rows("select id from iterations where status = 'Training'"):
            self.start(row["id"])

    def stop(self) -> None:
        """End all trainings; the next process with the database resumes them."""
        with self._lock:
            self._stopping.set()
            threads = list(self._threads.values())
        for thread in threads:
            thread.join()
        with self._lock:
            self._threads.clear()
            self._stopping.clear()

    def _run(self, iteration: str) -> None:
        started, row = time.monotonic(), None
        try:
            import sklearn.linear_model  # noqa: F401 - it loads libraries with threads, which are limited below
            from threadpoolctl import threadpool_limits

            row = self._database.row("select * from iterations where id = ?", (iteration,))
            # Threads that wait for each other take many times the processor time that this small work needs.
            with threadpool_limits(1):
                result = None if row is None else self._trained(row)
            if row is None or result is None:
                return
            minutes = max(1, math.ceil((time.monotonic() - started) / 60))
            self._finish(row, "Completed", row["budget"] * 60 or minutes, *result)
        except Exception:  # noqa: BLE001 - whatever goes wrong, the iteration must not appear to be training forever
            _LOG.exception("the training of the iteration %s failed", iteration)
            if row is not None:
                self._finish(row, "Failed", 0, None, None)

    def _trained(self, row: sqlite3.Row) -> tuple[bytes, str] | None:
        """Return the trained model, and its predictions for unseen pictures; None if the emulator ends."""
        content: Json = json.loads(row["content"])
        tags, images = [tag["id"] for tag in content["tags"]], list(content["images"])
        truth = np.array([[tag in content["images"][image] for tag in tags] for image in images])
        multilabel = row["classification"] == "Multilabel"
        views = _ADVANCED_VIEWS if row["training_type"] == "Advanced" else 1
        parts = []
        for start in range(0, len(images), _AT_ONCE):
            if self._stopping.is_set():
                return None
            parts.append(look_at([self._bytes_of(image) for image in images[start : start + _AT_ONCE]], views))
        numbers = np.concatenate(parts, axis=1)
        said, folds = judge(numbers, truth, multilabel)
        if self._stopping.is_set():
            return None
        flat = numbers.reshape(-1, numbers.shape[2])
        model = fit(flat, np.tile(truth, (views, 1)), multilabel, views)
        judged = {"tags": tags, "images": images, "said": said.round(6).tolist(), "folds": folds.tolist()}
        return model.to_bytes(), json.dumps(judged)

    def _bytes_of(self, image: str) -> bytes:
        row = self._database.row("select content from images where id = ?", (image,))
        if row is None:
            raise LookupError(f"the image {image} was removed while it was needed")
        return bytes(row["content"])

    def _finish(self, row: sqlite3.Row, status: str, minutes: int, model: bytes | None, judged: str | None) -> None:
        with self._database.change() as connection:
            changed = connection.execute(
                "update iterations set status = ?, modified = ?, trained = ?, minutes = ?, model = ?, judged = ?"
                " where id = ?",
                (status, moment(), moment() if model else None, minutes, model, judged, row["id"]),
            )
            owner = self._database.row("select account from projects where id = ?", (row["project"],))
            if changed.rowcount and owner is not None:  # neither was deleted
                self._database.use(owner["account"], MINUTES, minutes)
