"""What the server tells about itself: Prometheus metrics and one JSON line per request."""

from __future__ import annotations

import json
import logging
import re
import sys
import time
import uuid

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_UNPRINTABLE = re.compile(r"[^A-Za-z0-9._:-]")


class Telemetry:
    """Metrics of one app, in a registry of its own, so that several apps can live in one process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter("scoring_requests", "Requests by status code.", ["code"], registry=self.registry)
        self.images = Counter("scoring_images", "Images scored.", registry=self.registry)
        self.labels = Counter("scoring_predictions", "Images by predicted label.", ["label"], registry=self.registry)
        self.latency = Histogram(
            "scoring_latency_seconds",
            "Time from the first byte of a scoring request to its answer.",
            registry=self.registry,
            buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5),
        )
        self.ready = Gauge("scoring_ready", "1 once the model is loaded and verified.", registry=self.registry)


def request_id(given: str | None) -> str:
    """The client's request id, reduced to safe characters and 128 of them, or a new one."""
    return _UNPRINTABLE.sub("", given or "")[:128] or uuid.uuid4().hex


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
