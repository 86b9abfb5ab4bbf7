"""Trees of processes: their shared memory, and how to end them."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

_GRACE_SECONDS = 15.0


def tree(root: int) -> list[int]:
    """Return the ids of a process and all that descend from it or share its session, without zombies."""
    parents: dict[int, int] = {}
    found = {root}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        with contextlib.suppress(OSError):  # it has ended meanwhile
            state, parent, _group, session = (folder / "stat").read_text().rpartition(")")[2].split()[:4]
            if state == "Z":
                continue
            parents[int(folder.name)] = int(parent)
            if int(session) == root:
                found.add(int(folder.name))
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return sorted(found & parents.keys())


def proportional_megabytes(root: int) -> float:
    """Return the PSS of a tree of processes in MB (10^6 bytes): shared pages count once, divided among the processes."""
    total = 0
    for process in tree(root):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1])
    return total * 1024 / 1e6


def end(root: int) -> None:
    """Ask a session's processes to end, and kill those that have not ended after a while. The caller reaps the root."""
    members = tree(root)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(root, signal.SIGTERM)
    deadline = time.monotonic() + _GRACE_SECONDS
    while any(_alive(process) for process in members) and time.monotonic() < deadline:
        time.sleep(0.05)
    for process in {*members, *tree(root)}:
        if _alive(process):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)


def _alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
