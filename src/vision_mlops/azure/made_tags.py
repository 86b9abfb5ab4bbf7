"""Tags that identify what this package created in Azure, if nothing else does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MADE_BY = "mlops.made-by"
MAKER = "mlops"
WORKLOAD = "mlops.workload"
"""Tag of resources that belong to one workload."""


def made_tags(workload: str = "") -> dict[str, str]:
    """Return the tags of a new resource; ``workload`` is empty if several workloads share it."""
    return {MADE_BY: MAKER, **({WORKLOAD: workload} if workload else {})}


def is_made(tags: Mapping[str, Any] | None) -> bool:
    """Return whether this package created the resource with these tags."""
    return (tags or {}).get(MADE_BY) == MAKER


def workload_of(tags: Mapping[str, Any] | None) -> str:
    """Return the workload that a resource with these tags belongs to; empty if they do not say."""
    return str((tags or {}).get(WORKLOAD) or "")
