"""Prometheus metrics of the scoring server, summed over its processes.

With ``PROMETHEUS_MULTIPROC_DIR`` in the environment, which must be set before prometheus_client is imported, every process
keeps its values in files there, and any of them can answer for all: what a worker counted stays when it is replaced.
"""

from __future__ import annotations

import os

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from vision_mlops.deployment.metrics_folder import FOLDER_VARIABLE

_SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)


class Telemetry:
    """Metrics of one app, in a registry of its own, so that several apps can live in one process."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self._requests = Counter("scoring_requests", "Requests by status code.", ["code"], registry=registry)
        self._labels = Counter("scoring_predictions", "Images by predicted label.", ["label"], registry=registry)
        self.images = Counter("scoring_images", "Images scored.", registry=registry)
        self.latency = Histogram(
            "scoring_latency_seconds", "Time from the head of a scoring request to its answer.",
            registry=registry, buckets=_SECONDS,
        )  # fmt: skip
        self.queue = Histogram(
            "scoring_queue_seconds", "Time that a scoring request waited for its turn.",
            registry=registry, buckets=(0.0005, 0.001, *_SECONDS),
        )  # fmt: skip
        self.rejected = Counter(
            "scoring_rejected", "Requests told to come again: queue or memory full.", registry=registry
        )
        self.in_flight = Gauge(
            "scoring_requests_in_flight", "Requests being answered.", registry=registry, multiprocess_mode="livesum"
        )
        self.ready = Gauge(
            "scoring_ready", "1 once every worker has a verified model.", registry=registry,
            multiprocess_mode="livemin",
        )  # fmt: skip
        self._model = Gauge(
            "scoring_model_info", "1 for the model that answers.", ["name", "version", "id"], registry=registry,
            multiprocess_mode="livemax",
        )  # fmt: skip
        self._reloads = Counter("scoring_reloads", "Swaps of the model, by outcome.", ["outcome"], registry=registry)
        self.log_lines_dropped = Counter("scoring_log_lines_dropped", "Log lines nobody could take.", registry=registry)
        self._records = Counter(
            "scoring_prediction_records", "Sampled predictions, by outcome.", ["outcome"], registry=registry
        )
        self._codes: dict[int, Counter] = {}
        self._by_label: dict[str, Counter] = {}
        self._current: tuple[str, str, str] | None = None

    def count_request(self, code: int) -> None:
        """A request has been answered."""
        child = self._codes.get(code)
        if child is None:
            child = self._codes[code] = self._requests.labels(str(code))
        child.inc()

    def count_label(self, label: str) -> None:
        """An image has been given a label."""
        child = self._by_label.get(label)
        if child is None:
            child = self._by_label[label] = self._labels.labels(label)
        child.inc()

    def count_reload(self, outcome: str) -> None:
        """A swap has come to its end: ``done`` or ``failed``."""
        self._reloads.labels(outcome).inc()

    def count_record(self, outcome: str) -> None:
        """A sampled prediction was ``written`` or ``dropped``."""
        self._records.labels(outcome).inc()

    def show_model(self, name: str, version: str, identity: str) -> None:
        """Another model answers from now on."""
        if self._current is not None:
            self._model.labels(*self._current).set(0)
        self._current = (name, version, identity)
        self._model.labels(*self._current).set(1)
        self.ready.set(1)

    def expose(self) -> bytes:
        """The metrics in Prometheus' text format, of all processes where there are several."""
        folder = os.environ.get(FOLDER_VARIABLE)
        if folder is None:
            return bytes(generate_latest(self._registry))
        registry = CollectorRegistry()
        MultiProcessCollector(registry, path=folder)
        return bytes(generate_latest(registry))


def restart_counter() -> Counter:
    """The supervisor's own metric: a whole :class:`Telemetry` there would count as a worker that is not ready."""
    return Counter("scoring_worker_restarts", "Workers that ended and were replaced.", registry=CollectorRegistry())


def forget_process(pid: int) -> None:
    """A worker has ended: its gauges no longer count, its counters do."""
    folder = os.environ.get(FOLDER_VARIABLE)
    if folder is not None:
        mark_process_dead(pid, path=folder)
