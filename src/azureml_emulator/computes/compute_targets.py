"""Checks whether a job may run on the computes that it names."""

from __future__ import annotations

import re

from azureml_emulator.computes.compute_checks import INSTANCE
from azureml_emulator.resources.asset_references import texts
from azureml_emulator.resources.rest_resources import ResourceStore
from azureml_emulator.rest.rest_calls import Json, malformed

_COMPUTE = re.compile(r"(?:azureml:)?(/subscriptions/.+/workspaces/[^/]+/computes/[^/]+)", re.IGNORECASE)


def check_targets(store: ResourceStore, job: Json) -> None:
    """Refuse a job for a compute that does not exist, or for an instance that is not running.

    Args:
        store: Contains the computes.
        job: Properties of the job.

    Raises:
        ServiceRefusalError: 400.
    """
    for path in compute_paths(job):
        name = path.rsplit("/", 1)[-1]
        found = store.find(path)
        if found is None:
            raise malformed(f"Unknown compute target '{name}'.")
        state = (found.properties.get("properties") or {}).get("state")
        if found.properties.get("computeType") == INSTANCE and state != "Running":
            raise malformed(f"The compute instance '{name}' is {state}, not Running: start it first.")


def compute_paths(job: Json) -> list[str]:
    """Return the distinct paths of the computes that a job or its steps name."""
    return list(dict.fromkeys(found[1] for text in texts(job) if (found := _COMPUTE.fullmatch(text))))
