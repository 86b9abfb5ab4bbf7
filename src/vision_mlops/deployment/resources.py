"""What of the machine a process uses: the cores that it may, by the scheduler's mask and the quota of its control group, and
the memory that it keeps."""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
from pathlib import Path

_GROUPS = Path("/sys/fs/cgroup")
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of malloc.h
_LARGE_BYTES = 256 * 1024


def available_cores(groups: Path = _GROUPS) -> int:
    """Cores that are worth a worker each, at least 1: in a container, its CPU limit rounded up.

    Args:
        groups: Where the control groups are mounted (version 2, or 1).
    """
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota(groups)
    return max(1, affinity if quota is None else min(affinity, math.ceil(quota)))


def return_large_blocks() -> bool:
    """Have freed blocks of 256 KiB and more go back to the system at once, where the C library is glibc.

    By itself it raises that bound to the size of what was freed, up to 32 MiB, so that after the first large image the
    bodies of all others lie between small things that stay. Returns whether it has taken effect.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library, or none to be looked into
        return False
    return bool(mallopt(_MMAP_THRESHOLD, _LARGE_BYTES)) and bool(mallopt(_TRIM_THRESHOLD, _LARGE_BYTES // 2))


def _quota(groups: Path) -> float | None:
    with contextlib.suppress(OSError, ValueError):
        limit, period = (groups / "cpu.max").read_text().split()
        return None if limit == "max" else int(limit) / int(period)
    with contextlib.suppress(OSError, ValueError, ZeroDivisionError):
        limit = (groups / "cpu/cpu.cfs_quota_us").read_text()
        period = (groups / "cpu/cpu.cfs_period_us").read_text()
        return None if int(limit) <= 0 else int(limit) / int(period)
    return None
