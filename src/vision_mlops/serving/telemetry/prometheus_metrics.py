"""The metrics of the server for Prometheus: those of one process, or the sum over several.

A process that serves makes one :class:`Telemetry` and calls it for each request; that costs microseconds, as the children
of labelled metrics are kept. Within :func:`~vision_mlops.serving.telemetry.metrics_folder.metrics_folder`, whoever is asked
tells the sum over all processes; elsewhere each object counts for itself, so that several apps can live in one process.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.mmap_dict import mmap_key

from vision_mlops.serving.telemetry.metrics_folder import shared_files, use_slot

OTHER = "(other)"
"""Label of what is counted together because there is no space for more labels."""
_SECONDS = (0.001, 0.002, 0.003, 0.004, 0.006, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
_CODES = (200, 400, 401, 404, 405, 413, 415, 422, 429, 500, 503)
_LABELS = ("scoring_predictions", "Images by predicted label.")
_MODEL = ("scoring_model_info", "1 for the model that is served.")

Outcome = Literal["done", "failed"]
Fate = Literal["written", "dropped", "sent"]


class Telemetry:
    """Metrics of a process that serves.

    Attributes:
        images, rejected, log_lines_dropped: Counters.
        latency, queue: Histograms, in seconds.
        in_flight, ready: Gauges.
    """

    def __init__(self) -> None:
        self._files = shared_files()
        self._registry = registry = CollectorRegistry()
        requests = Counter("scoring_requests", "Requests by status code.", ["code"], registry=registry)
        self._labels = Counter(*_LABELS, ["label"], registry=registry)
        self.images = Counter("scoring_images", "Images scored.", registry=registry)
        self.latency = Histogram(
            "scoring_latency_seconds", "Time from the head of a scoring request to its response.",
            registry=registry, buckets=_SECONDS,
        )  # fmt: skip
        self.queue = Histogram(
            "scoring_queue_seconds", "Time that a scoring request waited for its turn.",
            registry=registry, buckets=(0.0005, *_SECONDS),
        )  # fmt: skip
        self.rejected = Counter(
            "scoring_rejected", "Requests refused because the queue or the memory is full.", registry=registry
        )
        self.in_flight = Gauge(
            "scoring_requests_in_flight", "Requests being answered.", registry=registry, multiprocess_mode="livesum"
        )
        self.ready = Gauge(
            "scoring_ready", "1 once every worker has a verified model.", registry=registry,
            multiprocess_mode="livemin",
        )  # fmt: skip
        self._models = Gauge(*_MODEL, ["name", "version", "id"], registry=registry, multiprocess_mode="livemax")
        reloads = Counter("scoring_reloads", "Swaps of the model, by outcome.", ["outcome"], registry=registry)
        self.log_lines_dropped = Counter(
            "scoring_log_lines_dropped",
            "Log lines that were dropped because they could not be written.",
            registry=registry,
        )
        records = Counter(
            "scoring_prediction_records", "Records of sampled predictions, by outcome.", ["outcome"], registry=registry
        )
        _restarts(registry)
        self._reloads = {outcome: reloads.labels(outcome) for outcome in ("done", "failed")}
        self._records = {fate: records.labels(fate) for fate in ("written", "dropped", "sent")}
        self._requests = requests
        self._codes = {code: requests.labels(str(code)) for code in _CODES}
        self._by_label: dict[str, Any] = {}
        self._current: Any = None

    def count_request(self, code: int) -> None:
        """Count a request."""
        child = self._codes.get(code)
        if child is None:
            child = self._codes[code] = self._requests.labels(str(code))
        child.inc()

    def count_label(self, label: str) -> None:
        """Count an image by its label."""
        child = self._by_label.get(label)
        if child is None:
            child = self._child(label)
        child.inc()

    def count_reload(self, outcome: Outcome) -> None:
        """Count a swap of the model."""
        self._reloads[outcome].inc()

    def count_record(self, outcome: Fate, number: int = 1) -> None:
        """Count records of sampled predictions that were written, dropped or sent."""
        self._records[outcome].inc(number)

    def show_model(self, name: str, version: str, identity: str, classes: Iterable[str] = ()) -> None:
        """Show another model from now on.

        Args:
            name, version: Name and version in responses.
            identity: The bundle's id.
            classes: Names of its classes; they are shown from the start, with zero.
        """
        for label in classes:
            if label not in self._by_label:
                self._child(label)
        if self._current is not None:
            self._current.set(0)
        labels = {"name": name, "version": version, "id": identity}
        # A server that was given very many models on a full disk has no space to name another one.
        fits = self._fits("gauge_livemax", _MODEL[0], _MODEL[0], labels, _MODEL[1])
        self._current = self._models.labels(**labels) if fits else None
        if self._current is not None:
            self._current.set(1)
        self.ready.set(1)

    def expose(self) -> bytes:
        """Return the metrics in Prometheus' text format, of all processes where there are several."""
        registry = CollectorRegistry()
        registry.register(_Shown(self._source()))
        return bytes(generate_latest(registry))

    def _source(self) -> Any:
        if self._files is None or self._files.slot < 0:
            return self._registry
        from prometheus_client.multiprocess import MultiProcessCollector

        try:
            return MultiProcessCollector(None, str(self._files.folder))
        except ValueError:  # somebody has removed the folder: this process still knows its own values
            return self._registry

    def _child(self, label: str) -> Any:
        """Return the counter of a label; the common one if there is no space for another."""
        fits = self._fits("counter", _LABELS[0], f"{_LABELS[0]}_total", {"label": label}, _LABELS[1])
        child = self._by_label[label] = self._labels.labels(label if fits else OTHER)
        return child

    def _fits(self, kind: str, metric: str, name: str, labels: dict[str, str], text: str) -> bool:
        key = mmap_key(metric, name, list(labels), list(labels.values()), text)
        return self._files is None or self._files.reserve(kind, key)


class _Shown:
    """Leaves out models that are no longer served: a series in a file cannot be removed, only set to zero."""

    def __init__(self, source: Any) -> None:
        self._source = source

    def collect(self) -> Iterator[Any]:
        for metric in self._source.collect():
            if metric.name == _MODEL[0]:
                metric.samples = [sample for sample in metric.samples if sample.value]
            yield metric


def restart_counter() -> Counter:
    """Return the supervisor's own metric: a whole :class:`Telemetry` there would count as a worker that is not ready."""
    use_slot(0)
    return _restarts(CollectorRegistry())


def forget_process(slot: int) -> None:
    """Note that the worker of a slot has ended: its gauges no longer count, its counters do."""
    files = shared_files()
    if files is not None:
        files.forget(slot)


def _restarts(registry: CollectorRegistry) -> Counter:
    return Counter("scoring_worker_restarts", "Workers that ended and were replaced.", registry=registry)
