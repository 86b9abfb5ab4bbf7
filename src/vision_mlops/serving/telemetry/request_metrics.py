"""Metrics and log lines of requests, booked ten times a second.

After an inference the caches of the processor are cold, and what runs once for a request costs several times what it costs
in a row: booked one by one, metrics and log take 3 % of the throughput. A worker that is killed takes the last tenth of a
second with it; what others see of a worker is as old at most.
"""

from __future__ import annotations

from vision_mlops.serving.telemetry.prometheus_metrics import Telemetry
from vision_mlops.serving.telemetry.server_log import AnsweredRequest, log_requests, request_line

_MOST = 512


class RequestMetrics:
    """Collects entries and books them.

    Args:
        telemetry: Where they are counted.
    """

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry
        self._entries: list[AnsweredRequest] = []
        self.in_flight = 0
        """Scoring requests that are being answered; to be counted up and down by the app."""

    def add(self, entry: AnsweredRequest) -> None:
        """Add an entry; it is counted and logged by the next :meth:`book`, or now if there are many."""
        self._entries.append(entry)
        if len(self._entries) >= _MOST:
            self.book()

    def book(self) -> None:
        """Count and log everything that has been added."""
        self._telemetry.in_flight.set(self.in_flight)
        if not self._entries:
            return
        entries, self._entries = self._entries, []
        for entry in entries:
            self._count(entry)
        log_requests([request_line(entry) for entry in entries])

    def _count(self, entry: AnsweredRequest) -> None:
        telemetry = self._telemetry
        telemetry.count_request(entry.status)
        if entry.status == 429:
            telemetry.rejected.inc()
        if entry.queue_ms is not None:
            telemetry.queue.observe(entry.queue_ms / 1000)
        if entry.labels:
            telemetry.latency.observe(entry.ms / 1000)
            telemetry.images.inc(len(entry.labels))
            for label in entry.labels:
                telemetry.count_label(label)
