"""The steps, limits and options of a rollout."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields

from vision_mlops.core.errors import DeploymentError

DEFAULT_STEPS = "mirror=50,10,50,100"
"""Managed endpoints of Azure ML allow copies of at most half of the requests."""
_STEP = re.compile(r"(?:mirror=(\d{1,3})|(\d{1,3}))%?")


@dataclass(frozen=True, slots=True)
class RolloutStep:
    """One step: the candidate gets ``share`` percent of the requests, and copies of ``mirror`` percent of them."""

    share: int
    mirror: int = 0

    def __str__(self) -> str:
        """Return the step as it is written in ``--steps``."""
        return str(self.share) if self.share else f"mirror={self.mirror}"

    def describe(self) -> str:
        """Describe the step in words."""
        if self.share:
            return f"{self.share}% of the traffic"
        return f"copies of {self.mirror}% of the traffic" if self.mirror else "probes only"

    def traffic(self, candidate: str, champion: str) -> tuple[dict[str, int], dict[str, int]]:
        """Return traffic and mirror of the two deployments, as a target takes them."""
        shares = {champion: 100 - self.share, candidate: self.share}
        return {name: share for name, share in shares.items() if share}, {candidate: self.mirror} if self.mirror else {}


def parse_steps(text: str) -> tuple[RolloutStep, ...]:
    """Read ``mirror=50,10,50,100``: copies first, then growing shares that end with 100.

    Raises:
        DeploymentError: says which step is wrong.
    """
    hint = f"write for example --steps {DEFAULT_STEPS}"
    steps: list[RolloutStep] = []
    for part in text.split(","):
        found = _STEP.fullmatch(part.strip())
        if found is None:
            raise DeploymentError(f"--steps: {part.strip()!r} is neither mirror=PERCENT nor a share in percent", hint)
        mirror, share = found.groups()
        steps.append(RolloutStep(0, int(mirror)) if mirror is not None else RolloutStep(int(share)))
        if steps[-1].mirror > 100 or steps[-1].share > 100:
            raise DeploymentError(f"--steps: {part.strip()} is more than 100 percent", hint)
        if mirror is None and not steps[-1].share:
            raise DeploymentError("--steps: a share cannot be 0", "use mirror=0 to send probes only")
    shares = [step.share for step in steps]
    if shares != sorted(shares) or len(set(steps)) != len(steps):
        raise DeploymentError(f"--steps {text}: the steps must increase", hint)
    if len(set(shares)) != len(shares):
        raise DeploymentError(f"--steps {text}: only the first step can send copies", hint)
    if shares[-1] != 100:
        raise DeploymentError(f"--steps {text}: the last step must be 100", hint)
    return tuple(steps)


def write_steps(steps: Sequence[RolloutStep]) -> str:
    """Return the text that :func:`parse_steps` reads."""
    return ",".join(map(str, steps))


@dataclass(frozen=True, slots=True)
class RolloutLimits:
    """Limits that a candidate must keep at each step; the names are those of the options.

    Rates are fractions of 1. ``max_latency_ratio`` applies to the p95 and the median of the candidate, divided by those of
    the champion, beyond ``latency_allowance_ms``. ``step_timeout`` and ``min_seconds`` are in seconds.
    """

    min_requests: int = 100
    max_error_rate: float = 0.01
    max_latency_ratio: float = 1.5
    latency_allowance_ms: float = 1.0
    max_disagreement: float = 0.1
    step_timeout: float = 900.0
    min_seconds: float = 10.0

    def changed(self) -> dict[str, float]:
        """Return the limits that are not the defaults."""
        default = RolloutLimits()
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        return {name: value for name, value in values.items() if value != getattr(default, name)}


@dataclass(frozen=True, slots=True)
class Pace:
    """How often things are done, in seconds; ``probe_rate`` is in pairs of requests a second."""

    probe_rate: float = 10.0
    tick: float = 0.1
    look: float = 0.5  # how often the judge is asked
    beat: float = 15.0  # how often the endpoint and its tag are read
    lease: float = 600.0  # for how long a driver claims a step; renewed when half of it is over
    patience: float = 300.0  # how long calls to a target that does not respond are repeated
    warm_up: int = 5  # pairs at the beginning of a step that do not count


@dataclass(frozen=True, slots=True)
class RolloutOptions:
    """What to do at the end of a rollout, and whether to override warnings."""

    keep_candidate: bool = False
    keep_champion: bool = False
    no_alias: bool = False
    force: bool = False
