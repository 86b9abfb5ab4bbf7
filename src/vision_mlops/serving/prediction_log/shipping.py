"""Sends complete files of the prediction log to Blob Storage, and removes them here once they are there.

Every worker runs a thread for it; a lock lets one of them send at a time, and another one take over when that one ends.
What cannot be sent stays and is tried again; :mod:`~vision_mlops.serving.prediction_log.record_files` makes sure that the
disk does not fill up in the meantime. A blob is ``TO/MODEL/YYYY/MM/DD/NAME.jsonl``. Import it only if there is something
to send.

    check_destination(serving.predictions.to)    # the supervisor, at its start
    shipper = start_shipping(serving.predictions, model_name, telemetry.count_record)  # a worker, after the fork
    shipper.close()                              # after the prediction log was closed
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, replace
from itertools import groupby
from pathlib import Path

from vision_mlops.config.workload import Predictions
from vision_mlops.core import locks
from vision_mlops.core.errors import MlopsError
from vision_mlops.serving.prediction_log.predictions import predictions_folder
from vision_mlops.serving.prediction_log.record_files import RecordFiles, count_lines, day_of, finished
from vision_mlops.serving.telemetry.prometheus_metrics import Fate
from vision_mlops.storage import BlobFolder, locate, upload
from vision_mlops.storage.addresses import ContainerAddress, parse_address
from vision_mlops.storage.attempts import StorageRetryPolicy

_EVERY_SECONDS = 60.0
_LONGEST_WAIT_SECONDS = 900.0
_LOCK = ".shipping.lock"
_PATIENCE = StorageRetryPolicy(attempts=3, first=0.5, longest=5.0, silence=30.0)
_REQUESTS_AT_ONCE = 2

_log = logging.getLogger(__name__)


@dataclass
class Shipper:
    """Sends files of a folder, in a thread.

    Args:
        folder: Folder of the prediction log.
        find: Finds the place; called in the thread, as it may ask a workspace, until it succeeds.
        sent: Called with how many records have arrived.
        every_s: Pause between two looks; after failures it grows to a quarter of an hour.
        patience: How long requests are tried.
    """

    folder: Path
    find: Callable[[], BlobFolder]
    sent: Callable[[int], object]
    _: KW_ONLY
    every_s: float = _EVERY_SECONDS
    patience: StorageRetryPolicy = _PATIENCE

    def __post_init__(self) -> None:
        self._place: BlobFolder | None = None
        self._orphans = RecordFiles(self.folder, max_bytes=2**62)
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="shipping", daemon=True)
        self._thread.start()

    def close(self, timeout_s: float = 10.0) -> None:
        """Send what is complete, for at most this many seconds; the rest is sent after the next start."""
        self._ending.set()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        wait = self.every_s
        while not self._ending.wait(wait):
            done = self._take_turn()
            wait = min(2 * wait, _LONGEST_WAIT_SECONDS) if done is False else self.every_s
        while finished(self.folder) and self._take_turn() is None:  # others end at the same moment
            time.sleep(0.05)

    def _take_turn(self) -> bool | None:
        """Send what is complete, and return whether that succeeded; None if another process sends."""
        try:
            lock = locks.take(self.folder / _LOCK)
        except OSError:  # the folder cannot be written, so nothing is sent from it
            return None
        if lock is None:
            return None
        with lock:
            return self._ship()

    def _ship(self) -> bool:
        """Send all complete files, day after day; return whether that succeeded."""
        try:
            self._orphans.adopt()
            files = finished(self.folder)
            if not files:
                return True
            if self._place is None:
                self._place = self.find()
            done = [self._ship_day(self._place, day, list(group)) for day, group in groupby(files, day_of)]
            if all(done):
                return True
        except MlopsError as error:
            _log.warning("predictions are not sent, but kept: %s", error)
        except Exception:  # noqa: BLE001 - a thread that ended here would never send again
            _log.exception("predictions are not sent, but kept")
        self._place = None  # it may have moved, or have another key
        return False

    def _ship_day(self, place: BlobFolder, day: str, files: list[Path]) -> bool:
        # A day's folder of its own, as what is there is listed first: the whole history would take longer each day.
        there = replace(place, path=f"{place.path}/{day}".lstrip("/"))
        named = {path.name: path for path in files if path.exists()}  # the oldest may have been removed since
        if not named:
            return True
        lines = {name: count_lines(path) for name, path in named.items()}
        summary = upload(self.folder, there, files=named, jobs=_REQUESTS_AT_ONCE, patience=self.patience)
        for name, path in named.items():
            if name not in summary.failures:
                path.unlink(missing_ok=True)
                self.sent(lines[name])
        for name, reason in summary.failures.items():
            _log.warning("%s was not sent, but kept: %s", name, reason)
        return summary.ok


def check_destination(to: str) -> None:
    """Refuse at the start what can be seen to be wrong without a network.

    Args:
        to: An address, or empty.

    Raises:
        ConfigError: the address or the environment's way to sign in is malformed.
        MissingExtraError: a package for it is not installed.
    """
    suffix = os.environ.get("AZURE_STORAGE_SUFFIX", "").strip()
    if to and isinstance(parse_address(to, [suffix] if suffix else []), ContainerAddress):
        locate(to)


def start_shipping(settings: Predictions, model_name: str, count: Callable[[Fate, int], object]) -> Shipper | None:
    """Start the shipper of this process; None if nothing is sampled or nothing is to be sent. It has a thread.

    Args:
        settings: Say where records are sent.
        model_name: Names the folder, here and there.
        count: Called with how many records were sent.
    """
    if settings.sample <= 0 or not settings.to:
        return None
    folder = predictions_folder(model_name)

    def find() -> BlobFolder:
        place = locate(settings.to)
        return replace(place, path=f"{place.path}/{folder.name}".lstrip("/"))

    return Shipper(folder, find, lambda number: count("sent", number))
