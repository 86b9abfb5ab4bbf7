"""What the server tells about itself in numbers: Prometheus metrics of one process, or the sum of several.

A process that serves makes one :class:`Telemetry` and calls it for each request; that costs microseconds, as the children
of labelled metrics are kept. With :class:`~vision_mlops.deployment.metricfiles.MetricFiles`, whoever is asked tells the sum
over all processes; without, each object has a registry of its own, so that several apps can live in one process.
"""

from __future__ import annotations

import json
import logging
import random
import re
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any, Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import choose_encoder
from prometheus_client.mmap_dict import mmap_key

from vision_mlops.deployment.metricfiles import MetricFiles

OTHER = "(other)"
"""Label of what is counted together because there is no space for more labels."""
_INFO = "scoring_model_info"
_LATENCY = (0.001, 0.002, 0.003, 0.004, 0.006, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
_WAIT = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)
_CODES = (200, 400, 401, 404, 405, 413, 415, 422, 429, 500, 503)
_UNPRINTABLE = re.compile(r"[^A-Za-z0-9._:-]")

Outcome = Literal["success", "failure"]
Fate = Literal["written", "dropped", "sent"]


class SupervisorMetrics:
    """What only the process that looks after the workers counts.

    Args:
        registry: Where to; not needed with files that several processes share.
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.restarts = Counter(
            "scoring_worker_restarts", "Workers that ended on their own and were replaced.", registry=registry
        )
        reloads = Counter("scoring_model_reloads", "Changes of the model, by outcome.", ["outcome"], registry=registry)
        self._reloads = {outcome: reloads.labels(outcome) for outcome in ("success", "failure")}

    def reloaded(self, outcome: Outcome) -> None:
        """The model was to be replaced by another."""
        self._reloads[outcome].inc()


class Telemetry(SupervisorMetrics):
    """Metrics of a process that serves.

    Attributes:
        requests, images, labels, rejections, log_lines_dropped: Counters.
        latency, queue_wait: Histograms, in seconds.
        in_flight, ready: Gauges.

    Args:
        files: Shared by the processes of a server, and claimed by this one.
    """

    def __init__(self, files: MetricFiles | None = None) -> None:
        self.registry = CollectorRegistry()
        super().__init__(self.registry)
        self._files = files
        registry = self.registry
        self.requests = Counter("scoring_requests", "Requests by status code.", ["code"], registry=registry)
        self.images = Counter("scoring_images", "Images scored.", registry=registry)
        self.labels = Counter("scoring_predictions", "Images by predicted label.", ["label"], registry=registry)
        self.rejections = Counter(
            "scoring_queue_rejections", "Requests answered 429, as too many were waiting.", registry=registry
        )
        self.latency = Histogram(
            "scoring_latency_seconds",
            "Time from the first byte of a scoring request to its answer.",
            registry=registry,
            buckets=_LATENCY,
        )
        self.queue_wait = Histogram(
            "scoring_queue_wait_seconds",
            "Time that a scoring request waited for its turn.",
            registry=registry,
            buckets=_WAIT,
        )
        self.in_flight = Gauge(
            "scoring_requests_in_flight",
            "Requests that wait or are being worked on.",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self.ready = Gauge(
            "scoring_ready",
            "1 once the model is loaded and verified, in all workers.",
            registry=registry,
            multiprocess_mode="livemin",
        )
        self._info = Gauge(
            _INFO,
            "The model that is served.",
            ["name", "version", "id"],
            registry=registry,
            multiprocess_mode="livemax",
        )
        records = Counter(
            "scoring_prediction_records", "Records of the prediction log, by fate.", ["fate"], registry=registry
        )
        self.log_lines_dropped = Counter(
            "scoring_log_lines_dropped", "Log lines that standard error did not take.", registry=registry
        )
        self._records = {fate: records.labels(fate) for fate in ("written", "dropped", "sent")}
        self._codes = {code: self.requests.labels(str(code)) for code in _CODES}
        self._labels: dict[str, Any] = {}
        self._model: Any = None

    def answered(self, code: int) -> None:
        """A request was answered with a status code."""
        child = self._codes.get(code)
        if child is None:
            child = self._codes[code] = self.requests.labels(str(code))
        child.inc()

    def scored(self, labels: Iterable[str]) -> None:
        """Images were scored; ``labels`` are the most probable ones, one for each image."""
        number = 0
        for label in labels:
            child = self._labels.get(label)
            if child is None:
                child = self._label(label)
            child.inc()
            number += 1
        self.images.inc(number)

    def recorded(self, fate: Fate, number: int = 1) -> None:
        """Records of the prediction log were written, dropped or sent."""
        self._records[fate].inc(number)

    def set_model(self, name: str, version: str, identity: str, classes: Iterable[str] = ()) -> None:
        """The model that is served from now on. Its classes are shown from the start, with zero.

        Args:
            name, version: What answers call it.
            identity: The bundle's id.
            classes: Names of its classes.
        """
        for label in classes:
            if label not in self._labels:
                self._label(label)
        if self._model is not None:
            self._model.set(0)
        given = {"name": name, "version": version, "id": identity}
        self._model = None
        if self._room("gauge_livemax", _INFO, _INFO, given, "The model that is served."):
            self._model = self._info.labels(**given)
            self._model.set(1)

    def render(self, accept: str = "") -> tuple[bytes, str]:
        """The metrics as text, the sum over all processes where they share files.

        Args:
            accept: The request's header ``Accept``; it chooses between Prometheus' format and OpenMetrics.

        Returns:
            Body and content type.
        """
        encode, kind = choose_encoder(accept)
        registry = CollectorRegistry()
        registry.register(_Shown(self._source()))
        return encode(registry), kind

    def _source(self) -> Any:
        if self._files is None or self._files.slot < 0:
            return self.registry
        try:
            return self._files.collector()
        except ValueError:  # somebody has removed the folder: this process knows its own values all the same
            return self.registry

    def _label(self, label: str) -> Any:
        """The counter of a label; the common one where there is no space for another."""
        made = {"label": label}
        if not self._room(
            "counter", "scoring_predictions", "scoring_predictions_total", made, "Images by predicted label."
        ):
            label = OTHER
        child = self._labels[label] = self.labels.labels(label)
        return child

    def _room(self, kind: str, metric: str, name: str, labels: dict[str, str], text: str) -> bool:
        key = mmap_key(metric, name, list(labels), list(labels.values()), text)
        return self._files is None or self._files.reserve(kind, key)


class _Shown:
    """Leaves out models that are not served any more: a series in a file cannot be removed, only set to zero."""

    def __init__(self, source: Any) -> None:
        self._source = source

    def collect(self) -> Iterator[Any]:
        for metric in self._source.collect():
            if metric.name == _INFO:
                metric.samples = [sample for sample in metric.samples if sample.value]
            yield metric


def request_id(given: str | None) -> str:
    """The client's request id, reduced to safe characters and 128 of them, or a new one."""
    return _UNPRINTABLE.sub("", given or "")[:128] or f"{random.getrandbits(128):032x}"


def log_request(**fields: object) -> None:
    """Write one JSON line to the log ``vision_mlops.requests``; never image data or keys."""
    logging.getLogger("vision_mlops.requests").info(json.dumps({"time": round(time.time(), 3), **fields}))


def log_to_stderr() -> None:
    """Send the request log to standard error; called by the command that serves."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger = logging.getLogger("vision_mlops.requests")
    logger.handlers = [handler]
    logger.setLevel(logging.INFO)
    logger.propagate = False
