"""How many cores this process may use: the scheduler's mask, and the quota of its control group."""

from __future__ import annotations

import contextlib
import math
import os
from pathlib import Path

_GROUPS = Path("/sys/fs/cgroup")


def available_cores(groups: Path = _GROUPS) -> int:
    """Return the number of cores that are worth a worker each, at least 1: in a container, its CPU limit rounded up.

    Args:
        groups: Where the control groups are mounted (version 2, or 1).
    """
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota(groups)
    return max(1, affinity if quota is None else min(affinity, math.ceil(quota)))


def _quota(groups: Path) -> float | None:
    with contextlib.suppress(OSError, ValueError):
        limit, period = (groups / "cpu.max").read_text().split()
        return None if limit == "max" else int(limit) / int(period)
    with contextlib.suppress(OSError, ValueError, ZeroDivisionError):
        limit = (groups / "cpu/cpu.cfs_quota_us").read_text()
        period = (groups / "cpu/cpu.cfs_period_us").read_text()
        return None if int(limit) <= 0 else int(limit) / int(period)
    return None
