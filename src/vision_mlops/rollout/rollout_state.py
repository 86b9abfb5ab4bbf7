"""The state of a rollout in a tag of its endpoint, written before each action so that any process can continue it."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import time
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from vision_mlops.core import paths
from vision_mlops.core.errors import DeploymentError
from vision_mlops.endpoints.contract import Endpoint, deployment_name
from vision_mlops.endpoints.deployment import ROLLOUT_TAG
from vision_mlops.registry import parse_reference
from vision_mlops.rollout.rollout_settings import (
    DEFAULT_STEPS,
    RolloutLimits,
    RolloutOptions,
    RolloutStep,
    parse_steps,
    write_steps,
)

TAG_LENGTH = 256
"""Longest value of a tag on Azure."""
_LIMITS = {
    "n": "min_requests", "e": "max_error_rate", "r": "max_latency_ratio", "l": "latency_allowance_ms",
    "d": "max_disagreement", "t": "step_timeout", "s": "min_seconds",
}  # fmt: skip
_WISHES = {"c": "keep_candidate", "o": "keep_champion", "a": "no_alias", "f": "force"}


class Phase(StrEnum):
    """The current phase. Each can be started again; once CLOSE has begun, the rollout cannot be undone."""

    DEPLOY = "deploy"
    STEP = "step"
    FINISH = "finish"
    CLOSE = "close"
    ROLLBACK = "rollback"


class Order(StrEnum):
    """An order of another process to the one that drives."""

    ABORT = "abort"
    PROMOTE = "promote"


@dataclass(frozen=True, slots=True)
class Rollout:
    """State of a rollout. ``candidate`` and ``champion`` are deployments, ``model`` is the candidate's NAME:VERSION.

    ``began`` and ``until`` are seconds since 1970: until then the process ``driver`` claims the rollout; an empty driver
    means that no process does. ``optioned``: the deployment was requested with options, which are not stored here.
    """

    candidate: str
    champion: str
    model: str
    began: int
    steps: tuple[RolloutStep, ...] = field(default_factory=lambda: parse_steps(DEFAULT_STEPS))
    limits: RolloutLimits = field(default_factory=RolloutLimits)
    wishes: RolloutOptions = field(default_factory=RolloutOptions)
    phase: Phase = Phase.DEPLOY
    number: int = 0
    driver: str = ""
    until: int = 0
    order: Order | None = None
    optioned: bool = False

    @property
    def step(self) -> RolloutStep:
        """The current step, or the last one."""
        return self.steps[self.number]

    @property
    def folder_name(self) -> str:
        """Name of the folder of its report."""
        return f"{datetime.fromtimestamp(self.began, UTC):%Y%m%d-%H%M%S}-{self.candidate}"

    def describe(self) -> str:
        """Describe in words where the rollout is."""
        if self.phase is Phase.STEP:
            return f"step {self.number + 1} of {len(self.steps)}: {self.step.describe()}"
        return {
            Phase.DEPLOY: f"deploying {self.candidate}",
            Phase.FINISH: f"giving {self.candidate} all traffic for good",
            Phase.CLOSE: f"removing what {self.candidate} has replaced",
            Phase.ROLLBACK: f"rolling back to {self.champion}",
        }[self.phase]

    def at(self, phase: Phase, number: int | None = None) -> Rollout:
        """Return the state at another phase or step; except at DEPLOY and STEP, an order counts as obeyed."""
        kept = self.order if phase in (Phase.DEPLOY, Phase.STEP) else None
        return replace(self, phase=phase, number=self.number if number is None else number, order=kept)

    def driven(self, seconds: float) -> Rollout:
        """Return the state, claimed for this machine for a number of seconds."""
        return replace(self, driver=driver_id(), until=int(time.time() + seconds))

    def left(self) -> Rollout:
        """Return the state, claimed by no process."""
        return replace(self, driver="", until=0)


def driver_id() -> str:
    """Return a short name of the home folder on this machine: processes that see the same locks have the same one."""
    return hashlib.sha256(f"{socket.gethostname()}\0{os.getuid()}\0{paths.home()}".encode()).hexdigest()[:6]


def pack(state: Rollout) -> str:
    """Return the value of the tag.

    Raises:
        DeploymentError: it is longer than Azure takes.
    """
    content: dict[str, Any] = {"m": state.model, "b": state.champion, "p": str(state.phase), "a": state.began}
    if state.candidate != _usual_name(state.model):
        content["c"] = state.candidate
    if state.number:
        content["i"] = state.number
    if (steps := write_steps(state.steps)) != DEFAULT_STEPS:
        content["s"] = steps.replace("mirror=", "m")
    changed = state.limits.changed()
    if changed:
        content["l"] = {key: changed[name] for key, name in _LIMITS.items() if name in changed}
    marks = "".join(key for key, name in _WISHES.items() if getattr(state.wishes, name))
    if marks := marks + ("x" if state.optioned else ""):
        content["f"] = marks
    if state.driver:
        content |= {"d": state.driver, "t": state.until}
    if state.order:
        content["w"] = str(state.order)
    text = json.dumps(content, separators=(",", ":"))
    if len(text) > TAG_LENGTH:
        raise DeploymentError(
            f"the state of this rollout has {len(text)} characters, but a tag can have only {TAG_LENGTH}",
            "shorten the names of the deployments, or leave limits and steps at their defaults",
        )
    return text


def unpack(text: str) -> Rollout:
    """Read the value of the tag.

    Raises:
        DeploymentError: it is not the state of a rollout.
    """
    try:
        content = json.loads(text)
        marks = content.get("f", "")
        return Rollout(
            candidate=str(content.get("c") or _usual_name(content["m"])),
            champion=str(content["b"]),
            model=str(content["m"]),
            began=int(content["a"]),
            steps=(
                steps := parse_steps(content.get("s", DEFAULT_STEPS).replace("mirror=", "m").replace("m", "mirror="))
            ),
            limits=RolloutLimits(**{_LIMITS[key]: value for key, value in content.get("l", {}).items()}),
            wishes=RolloutOptions(**{name: key in marks for key, name in _WISHES.items()}),
            phase=Phase(content["p"]),
            number=range(len(steps))[int(content.get("i", 0))],
            driver=str(content.get("d", "")),
            until=int(content.get("t", 0)),
            order=Order(content["w"]) if "w" in content else None,
            optioned="x" in marks,
        )
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, DeploymentError, LookupError) as error:
        raise DeploymentError(
            f"the tag {ROLLOUT_TAG} does not have the state of a rollout: {text[:80]!r}",
            "`mlops rollout abort` gives all traffic to the deployment with most of it, and removes the tag",
        ) from error


def rollout_of(endpoint: Endpoint) -> Rollout | None:
    """Return the rollout of an endpoint, if any. Raises DeploymentError if its tag cannot be read."""
    text = endpoint.tags.get(ROLLOUT_TAG)
    return unpack(text) if text is not None else None


def _usual_name(model: str) -> str:
    return deployment_name(parse_reference(model).version or 0)
