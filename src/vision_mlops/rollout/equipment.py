"""What a driver works with, and how its work can end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from vision_mlops.endpoints.contract import DeploymentRequest
from vision_mlops.registry import Registry
from vision_mlops.rollout.probe_images import ProbeImage
from vision_mlops.rollout.probes import Ask, ask
from vision_mlops.rollout.rollout_report import Report, RolloutOutcome
from vision_mlops.rollout.rollout_settings import Pace


@dataclass(frozen=True, slots=True)
class Ending:
    """How driving ended. ``problem`` is what is left to be mended by hand although the rollout is over.

    ``report`` is None where another process drove.
    """

    outcome: RolloutOutcome
    reasons: tuple[str, ...] = ()
    problem: str = ""
    report: Report | None = None


@dataclass(frozen=True, slots=True)
class Equipment:
    """What a driver works with. ``request`` is None where a rollout goes on whose candidate is deployed."""

    registry: Registry
    images: Sequence[ProbeImage]
    request: DeploymentRequest | None
    ask: Ask = ask
    pace: Pace = field(default_factory=Pace)
    roll_back_on_interrupt: bool = False
