"""Limits of managed online endpoints: names, numbers, large bodies, and simultaneous requests."""

from __future__ import annotations

import re
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from azureml_emulator.resources.rest_resources import RestResource
from azureml_emulator.rest.rest_calls import ServiceRefusalError, malformed

BODY_BYTES = 1_572_864
"""Maximum size of a request: 1.5 MB."""
DEPLOYMENTS = 20
INSTANCES = 50
LONGEST_SECONDS = 180.0
_NAME = re.compile(r"[A-Za-z]([A-Za-z0-9-]{1,30}[A-Za-z0-9])")
_DURATION = re.compile(r"PT(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?")


def check_name(noun: str, name: str) -> None:
    """Refuse an invalid name of an endpoint or a deployment. Raises ServiceRefusalError."""
    if not _NAME.fullmatch(name):
        rule = "it must have 3 to 32 letters, digits and dashes, begin with a letter and end with a letter or digit"
        raise ServiceRefusalError(400, "BadArgument", f"The {noun} name {name!r} is invalid: {rule}", target="name")


def check_deployment(made: RestResource, others: list[RestResource]) -> None:
    """Refuse a deployment beyond the limits; ``others`` are those of the same endpoint. Raises ServiceRefusalError."""
    if len(others) >= DEPLOYMENTS:
        raise malformed(f"the endpoint has {DEPLOYMENTS} deployments, which is the maximum; delete one first")
    instances = instances_of(made)
    if not 1 <= instances <= INSTANCES:
        raise malformed(f"a managed deployment must have 1 to {INSTANCES} instances, not {instances}")
    seconds = timeout_of(made)
    if not 0 < seconds <= LONGEST_SECONDS:
        raise malformed(f"the request timeout is at most {LONGEST_SECONDS:g} s, not {seconds:g} s")


def instances_of(deployment: RestResource) -> int:
    """Return how many instances a deployment has."""
    capacity = (deployment.body.get("sku") or {}).get("capacity")
    return 1 if capacity is None else int(capacity)


def timeout_of(deployment: RestResource) -> float:
    """Return how many seconds a request may take."""
    text = str((deployment.properties.get("requestSettings") or {}).get("requestTimeout") or "PT5S")
    found = _DURATION.fullmatch(text)
    if found is None:
        raise malformed(f"requestTimeout {text!r} is not a duration such as PT5S")
    hours, minutes, seconds = (float(part or 0) for part in found.groups())
    return hours * 3600 + minutes * 60 + seconds


def late(deployment: RestResource) -> ServiceRefusalError:
    """Return the refusal of a request that has taken too long."""
    message = f"{deployment.name!r} did not respond within its request timeout of {timeout_of(deployment):g} s"
    return ServiceRefusalError(408, "RequestTimeout", message, {"azureml-model-deployment": deployment.name})


def check_body(content: bytes) -> None:
    """Refuse a request that is too large. Raises ServiceRefusalError."""
    if len(content) > BODY_BYTES:
        message = f"the request has {len(content)} bytes; a managed endpoint accepts at most {BODY_BYTES} (1.5 MB)"
        raise ServiceRefusalError(413, "RequestEntityTooLarge", message)


class RequestsUnderWay:
    """The number of current requests of each deployment."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._numbers: Counter[str] = Counter()

    @contextmanager
    def one_more(self, deployment: RestResource) -> Iterator[None]:
        """Count one more request. Raises ServiceRefusalError if its instances and their queues are full."""
        each = int((deployment.properties.get("requestSettings") or {}).get("maxConcurrentRequestsPerInstance") or 1)
        most, key = 2 * each * instances_of(deployment), deployment.id.lower()
        with self._lock:
            if self._numbers[key] >= most:
                message = (
                    f"the deployment {deployment.name!r} has {most} requests in progress, twice the"
                    f" {each} of each of its {instances_of(deployment)} instances"
                )
                raise ServiceRefusalError(429, "TooManyRequests", message, {"Retry-After": "1"})
            self._numbers[key] += 1
        try:
            yield
        finally:
            with self._lock:
                self._numbers[key] -= 1
