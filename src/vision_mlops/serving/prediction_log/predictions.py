"""The prediction log: a record for each image of a sample of requests, to watch the model by. Off unless asked for.

Requests only put what they have into a bounded queue; a thread hashes, encodes and writes. Where that does not keep up, or
the disk is full, records are dropped and counted, and it continues when there is room again.

    log = start_predictions(serving.predictions, model_name, telemetry.count_record)    # a worker, after the fork; None: off
    if log and log.wants(context.trace_id if context.parent_id else request_id):
        log.put(Sample(...))
    log.close()

:mod:`~vision_mlops.serving.prediction_log.shipping` sends complete files to Blob Storage.
"""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import queue
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vision_mlops.config.workload import Predictions
from vision_mlops.core import paths
from vision_mlops.core.errors import ImageError
from vision_mlops.images.decoding import read_size
from vision_mlops.serving.prediction_log.record_files import RecordFiles
from vision_mlops.serving.telemetry.prometheus_metrics import Fate

_MOST_IMAGES = 1000
_MOST_BYTES = 64 * 1024 * 1024
_IDLE_SECONDS = 5.0
_COMPLAINT_SECONDS = 60.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PredictionSample:
    """A request that was answered.

    Attributes:
        request_id, trace_id: Ids of the request, as in the log.
        model: Name, version and id of the model that responded.
        classes: Its classes.
        images: The images as they came, encoded.
        probabilities: A row for each image, in the order of the classes; also an array (N, C).
        latency_ms: From the first byte of the request to its response.
        time: When it was answered, in seconds since 1970.
    """

    request_id: str
    trace_id: str
    model: Mapping[str, str]
    classes: Sequence[str]
    images: Sequence[bytes]
    probabilities: Sequence[Sequence[float] | npt.NDArray[np.float32]] | npt.NDArray[np.float32]
    latency_ms: float
    time: float = field(default_factory=time.time)


@dataclass
class PredictionLog:
    """Samples requests and writes records of them, in a thread.

    Args:
        settings: What to keep.
        files: Files that records are written to.
        count: Called with how many records were written or dropped.
        most_images, most_bytes: How much may wait to be written.
    """

    settings: Predictions
    files: RecordFiles
    count: Callable[[Fate, int], object]
    _: KW_ONLY
    most_images: int = _MOST_IMAGES
    most_bytes: int = _MOST_BYTES
    idle_s: float = _IDLE_SECONDS

    def __post_init__(self) -> None:
        self._limit = int(self.settings.sample * 2**64)
        self._lock = threading.Lock()
        self._waiting_images = self._waiting_bytes = 0
        self._complained = 0.0
        self._queue: queue.SimpleQueue[PredictionSample | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="predictions", daemon=True)
        self._thread.start()

    def wants(self, key: str) -> bool:
        """Return whether a request belongs to the sample: for the same key the same, in every process.

        Args:
            key: The trace id where the caller has begun the trace, so that a trace is kept as a whole, else the request id.
        """
        digest = hashlib.blake2b(key.encode("utf-8", "replace"), digest_size=8).digest()
        return int.from_bytes(digest) < self._limit

    def put(self, sample: PredictionSample) -> None:
        """Have a request recorded; return at once and never raise."""
        images, size = len(sample.images), sum(map(len, sample.images))
        with self._lock:
            fits = self._waiting_images + images <= self.most_images and self._waiting_bytes + size <= self.most_bytes
            if fits:
                self._waiting_images += images
                self._waiting_bytes += size
        if fits:
            self._queue.put(sample)
        else:
            self.count("dropped", images)

    def close(self, timeout_s: float = 5.0) -> None:
        """Write what waits and finish the file, for at most this many seconds; the next start finishes what is left."""
        self._queue.put(None)
        self._thread.join(timeout_s)

    def _run(self) -> None:
        self._guarded(self.files.adopt)
        while True:
            try:
                sample = self._queue.get(timeout=self.idle_s)
            except queue.Empty:
                self._guarded(self.files.rotate)
                continue
            if sample is None:
                break
            self._take(sample)
        self._guarded(self.files.finish)

    def _take(self, sample: PredictionSample) -> None:
        written = 0
        try:
            for number in range(len(sample.images)):
                record = describe(sample, number, with_image=self.settings.images)
                self.files.write(json.dumps(record, separators=(",", ":")).encode() + b"\n")
                written += 1
        except Exception as error:  # noqa: BLE001 - whatever it is, the thread must go on
            self._complain(error)
        if written:
            self.count("written", written)
        if written < len(sample.images):
            self.count("dropped", len(sample.images) - written)
        with self._lock:
            self._waiting_images -= len(sample.images)
            self._waiting_bytes -= sum(map(len, sample.images))

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001 - whatever it is, the thread must go on
            self._complain(error)

    def _complain(self, error: Exception) -> None:
        now = time.monotonic()
        if not self._complained or now - self._complained > _COMPLAINT_SECONDS:
            self._complained = now
            reason = error.strerror if isinstance(error, OSError) and error.strerror else repr(error)
            _log.warning("predictions cannot be recorded in %s: %s", self.files.folder, reason)


def start_predictions(
    settings: Predictions, model_name: str, count: Callable[[Fate, int], object]
) -> PredictionLog | None:
    """Start the prediction log of this process; None if nothing is sampled. It has a thread: call this after the fork.

    Args:
        settings: What to keep.
        model_name: Names the folder.
        count: Called with how many records were written or dropped.
    """
    if settings.sample <= 0:
        return None
    folder = predictions_folder(model_name)
    dropped: Callable[[int], object] = lambda number: count("dropped", number)  # noqa: E731
    return PredictionLog(settings, RecordFiles(folder, max_bytes=settings.max_disk_mb * 2**20, dropped=dropped), count)


def predictions_folder(model_name: str) -> Path:
    """Return the folder of a model's records on this machine."""
    return paths.home() / "predictions" / (re.sub(r"[^A-Za-z0-9._-]", "_", model_name).strip(".") or "model")


def describe(sample: PredictionSample, number: int, *, with_image: bool = False) -> dict[str, Any]:
    """Return the record of one image of a request.

    Args:
        sample: The request.
        number: Number of the image, from 0.
        with_image: Add the image, base64.
    """
    data, row = sample.images[number], sample.probabilities[number]
    probabilities = {label: round(float(value), 6) for label, value in zip(sample.classes, row, strict=True)}
    label = max(probabilities, key=lambda name: probabilities[name])
    try:
        width, height = read_size(data)
    except ImageError:
        width = height = 0
    record = {
        "time": f"{datetime.fromtimestamp(sample.time, UTC).isoformat(timespec='milliseconds')[:-6]}Z",
        "request_id": sample.request_id,
        "trace_id": sample.trace_id,
        "model": sample.model,
        "number": number,
        "sha256": hashlib.sha256(data).hexdigest(),
        "width": width,
        "height": height,
        "bytes": len(data),
        "label": label,
        "probability": probabilities[label],
        "probabilities": probabilities,
        "latency_ms": round(sample.latency_ms, 3),
    }
    return {**record, "image": base64.b64encode(data).decode()} if with_image else record
