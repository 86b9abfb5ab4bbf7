"""Who drives a rollout: on this machine that is known by a lock, of another one by the lease in the tag."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vision_mlops.core import locks
from vision_mlops.core.errors import DeploymentError
from vision_mlops.endpoints.contract import Target
from vision_mlops.rollout.rollout_report import rollouts_folder
from vision_mlops.rollout.rollout_state import Rollout, driver_id


@contextmanager
def driving(target: Target, endpoint: str) -> Iterator[None]:
    """Hold the lock of the one process on this machine that drives. Raises DeploymentError where another one does."""
    lock = locks.take(lock_path(target, endpoint))
    if lock is None:
        raise DeploymentError(
            f"another process on this machine drives the rollout of {endpoint!r}",
            f"mlops rollout status {endpoint}; abort and promote tell it what to do",
        )
    with lock:
        yield


def lock_path(target: Target, endpoint: str) -> Path:
    """The lock."""
    return rollouts_folder(endpoint) / f".driver-{target.name}.lock"


def check_elsewhere(endpoint: str, state: Rollout) -> None:
    """Refuse to drive what another machine drives. Raises DeploymentError."""
    if elsewhere(state):
        left = max(1, round(state.until - time.time()))
        raise DeploymentError(
            f"another machine drives the rollout of {endpoint!r}",
            f"wait for it, or, where that machine is gone, for {left} s, or give --take-over",
        )


def elsewhere(state: Rollout) -> bool:
    """Whether another machine has said to be at work until a time that is still to come."""
    return bool(state.driver) and state.driver != driver_id() and state.until > time.time()


def driven_by(target: Target, endpoint: str, state: Rollout) -> str:
    """Who drives, in words."""
    if locks.is_taken(lock_path(target, endpoint)):
        return "a process on this machine"
    return "another machine" if elsewhere(state) else "nobody"
