"""Tags by which what this package made in Azure is found again, where nothing else of it says so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MADE_BY = "mlops.made-by"
MAKER = "mlops"
WORKLOAD = "mlops.workload"
"""Tag of what belongs to one workload."""


def made_tags(workload: str = "") -> dict[str, str]:
    """The tags of something that is made now; ``workload`` is empty for what several share."""
    return {MADE_BY: MAKER, **({WORKLOAD: workload} if workload else {})}


def is_made(tags: Mapping[str, Any] | None) -> bool:
    """Whether this package made what has these tags."""
    return (tags or {}).get(MADE_BY) == MAKER


def workload_of(tags: Mapping[str, Any] | None) -> str:
    """The workload that something with these tags belongs to; empty where they do not say."""
    return str((tags or {}).get(WORKLOAD) or "")
