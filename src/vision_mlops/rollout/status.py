"""Where a rollout stands, for a person or a program to read."""

from __future__ import annotations

from typing import Any

from vision_mlops.endpoints.contract import Target
from vision_mlops.rollout.driver_lock import driven_by
from vision_mlops.rollout.rollout_endpoint import shares
from vision_mlops.rollout.rollout_report import read_report, rollouts_folder
from vision_mlops.rollout.rollout_state import Phase, rollout_of


def status(target: Target, name: str) -> dict[str, Any]:
    """What is known of an endpoint's rollout, and of the last one that was driven from here; ready for JSON."""
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
            "driven_by": driven_by(target, name, state),
            "order": str(state.order) if state.order else None,
            "report": str(folder) if folder.is_dir() else None,
            "seen": next(iter(read_report(folder).get("steps", [])[-1:]), None),
        },
    }
