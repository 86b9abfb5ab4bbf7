"""Which process drives a rollout, how to wake it, and the status of the rollout.

A lock tells which process on this machine drives; the lease in the tag of the endpoint tells whether another machine does.
"""

from __future__ import annotations

import os
import time
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

from vision_mlops.core import locks
from vision_mlops.core.errors import DeploymentError
from vision_mlops.endpoints.contract import Target
from vision_mlops.rollout.rollout_endpoint import shares
from vision_mlops.rollout.rollout_report import read_report, rollouts_folder
from vision_mlops.rollout.rollout_state import Phase, Rollout, driver_id, rollout_of


def driving(target: str, endpoint: str) -> AbstractContextManager[None]:
    """Hold the lock of the one process on this machine that drives. Raises DeploymentError if another one does."""
    refusal = DeploymentError(
        f"another process on this machine runs the rollout of {endpoint!r}",
        f"see `mlops rollout status {endpoint}`; end it with `mlops rollout abort` or `promote`",
    )
    return locks.locked(lock_path(target, endpoint), refusal)


def lock_path(target: str, endpoint: str) -> Path:
    """Return the path of the lock of the process that drives, by the names of target and endpoint."""
    return rollouts_folder(endpoint) / f".driver-{target}.lock"


def check_elsewhere(endpoint: str, state: Rollout) -> None:
    """Refuse to drive what another machine drives. Raises DeploymentError."""
    if elsewhere(state):
        left = max(1, round(state.until - time.time()))
        raise DeploymentError(
            f"another machine drives the rollout of {endpoint!r}",
            f"wait until it has finished; if that machine is gone, wait for {left} s or give --take-over",
        )


def elsewhere(state: Rollout) -> bool:
    """Tell whether another machine holds a lease that has not expired."""
    return bool(state.driver) and state.driver != driver_id() and state.until > time.time()


def wake(target: str, endpoint: str) -> None:
    """Wake the driver on this machine, if there is one, so that it reads the tag at once and not only a little later."""
    with suppress(FileNotFoundError):
        os.utime(lock_path(target, endpoint))


class WakeUp:
    """Notices that :func:`wake` has touched the lock of this process, which drives."""

    def __init__(self, target: str, endpoint: str) -> None:
        self._path = lock_path(target, endpoint)
        self._seen = 0
        self.came()

    def came(self) -> bool:
        """Tell whether a wake-up came since the last call."""
        before = self._seen
        with suppress(FileNotFoundError):
            self._seen = self._path.stat().st_mtime_ns
        return self._seen != before


def status(target: Target, name: str) -> dict[str, Any]:
    """Return what is known of an endpoint's rollout, and of the last one driven from here, ready for JSON."""
    endpoint = target.endpoint(name)
    state = rollout_of(endpoint)
    folders = sorted(path for path in rollouts_folder(name).glob("*-*") if path.is_dir())
    if state is None:
        last = folders[-1] if folders else None
        return {
            "endpoint": name,
            "rollout": None,
            "last": {"report": str(last), "outcome": read_report(last).get("outcome")} if last else None,
        }
    traffic, mirror = shares(endpoint)
    folder = rollouts_folder(name) / state.folder_name
    here = locks.is_taken(lock_path(target.name, name))
    return {
        "endpoint": name,
        "rollout": {
            "candidate": state.candidate,
            "model": state.model,
            "champion": state.champion,
            "phase": str(state.phase),
            "step": str(state.step) if state.phase is Phase.STEP else None,
            "at": state.describe(),
            "traffic": traffic,
            "mirror": mirror,
            "driven_by": "a process on this machine" if here else "another machine" if elsewhere(state) else "nobody",
            "order": str(state.order) if state.order else None,
            "report": str(folder) if folder.is_dir() else None,
            "seen": next(iter(read_report(folder).get("steps", [])[-1:]), None),
        },
    }
