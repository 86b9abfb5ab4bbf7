"""What the router counts of a deployment, kept across restarts, and exposed to Prometheus."""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from vision_mlops.core.files import atomic_write
from vision_mlops.endpoints.contract import LATENCY_BOUNDS_MS, NOTHING_COUNTED, Counts
from vision_mlops.endpoints.local.router.endpoint_state import COUNTS

_SHOWN_EACH = 5  # of the bounds: a series for each of them would be many for Prometheus


class DeploymentCounters:
    """Counters of one deployment; :class:`~vision_mlops.endpoints.contract.Counts` says what they mean."""

    __slots__ = ("compared", "disagreed", "dropped", "errors", "latencies", "requests", "seconds")

    def __init__(self, counts: Counts = NOTHING_COUNTED, seconds: float = 0.0) -> None:
        self.requests = counts.requests
        self.errors = counts.errors
        self.compared = counts.compared
        self.disagreed = counts.disagreed
        self.latencies = list(counts.latencies)
        self.seconds = seconds
        self.dropped = 0
        """Copies of requests that were dropped because the queue was full."""

    def answered(self, status: int, seconds: float) -> None:
        """Count a response."""
        self.requests += 1
        if status >= 500:
            self.errors += 1
        self.seconds += seconds
        self.latencies[bisect_left(LATENCY_BOUNDS_MS, seconds * 1000)] += 1

    def failed(self) -> None:
        """Count a request that got no response."""
        self.requests += 1
        self.errors += 1

    def counts(self) -> Counts:
        """Return the counts up to now."""
        return Counts(self.requests, self.errors, self.compared, self.disagreed, tuple(self.latencies))


def read_counters(folder: Path) -> dict[str, DeploymentCounters]:
    """Read the counters by deployment as they were written last; none if the file cannot be read."""
    try:
        content = json.loads((folder / COUNTS).read_text(encoding="utf-8"))
        return {
            name: DeploymentCounters(counts_from(item["counts"]), float(item["seconds"]))
            for name, item in content.items()
        }
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}


def write_counters(folder: Path, counters: Mapping[str, DeploymentCounters]) -> None:
    """Write counters for a later router."""
    content = {name: {"counts": asdict(item.counts()), "seconds": item.seconds} for name, item in counters.items()}
    atomic_write(folder / COUNTS, json.dumps(content))


def counts_from(content: Mapping[str, Any]) -> Counts:
    """Return counts from JSON. Raises TypeError, KeyError or ValueError if it is something else."""
    counts = Counts(**{**content, "latencies": tuple(content["latencies"])})
    if len(counts.latencies) != len(LATENCY_BOUNDS_MS) + 1:
        raise ValueError("another number of buckets")
    return counts


def expose(
    counters: Mapping[str, DeploymentCounters], ready: Mapping[str, bool], traffic: Mapping[str, int]
) -> tuple[bytes, str]:
    """Return what Prometheus reads, and its media type."""
    from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

    return generate_latest(_Collector(counters, ready, traffic)), CONTENT_TYPE_LATEST


class _Collector:
    def __init__(
        self, counters: Mapping[str, DeploymentCounters], ready: Mapping[str, bool], traffic: Mapping[str, int]
    ) -> None:
        self._counters, self._ready, self._traffic = counters, ready, traffic

    def collect(self) -> Iterator[Any]:
        """Yield all families of metrics."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

        counters = {
            "requests": "Requests that a deployment got, including copies.",
            "errors": "Responses of 500 and above, and requests without a response.",
            "compared": "Copies whose response was compared with the one that the caller got.",
            "disagreed": "Copies whose response has another label.",
            "dropped": "Copies that were dropped because the queue was full.",
        }
        for field, text in counters.items():
            family = CounterMetricFamily(f"router_{field}", text, labels=["deployment"])
            for name, counted in self._counters.items():
                family.add_metric([name], getattr(counted, field))
            yield family
        gauges = {
            "ready": ("Whether a deployment is ready.", self._ready),
            "traffic": ("Its share of the traffic in percent.", self._traffic),
        }
        for field, (text, values) in gauges.items():
            gauge = GaugeMetricFamily(f"router_{field}", text, labels=["deployment"])
            for name in self._counters:
                gauge.add_metric([name], values.get(name, 0))
            yield gauge
        latency = HistogramMetricFamily(
            "router_latency_seconds", "Response time of a deployment.", labels=["deployment"]
        )
        for name, counted in self._counters.items():
            latency.add_metric([name], _buckets(counted.latencies), counted.seconds)
        yield latency


def _buckets(latencies: list[int]) -> list[tuple[str, int]]:
    total, shown = 0, []
    for number, count in enumerate(latencies):
        total += count
        if number == len(LATENCY_BOUNDS_MS):
            shown.append(("+Inf", total))
        elif number % _SHOWN_EACH == 0:
            shown.append((str(round(LATENCY_BOUNDS_MS[number] / 1000, 6)), total))
    return shown
