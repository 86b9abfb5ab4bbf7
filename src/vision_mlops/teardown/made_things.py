"""Something that was created in Azure: what it is, whose, what it costs, whether it is idle, and how to remove it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from vision_mlops.config.azure_settings import AzureSettings

KINDS = (
    "schedule", "pipeline", "online endpoint", "batch endpoint", "container group", "aks endpoint", "web app", "cluster",
    "model", "data",
)  # fmt: skip
"""Kinds in the order of their removal: those that start others first, those that others need last."""
FREE = 0.0


@dataclass(frozen=True)
class MadeThing:
    """One thing.

    Attributes:
        kind: One of :data:`KINDS`.
        name: Its name.
        detail: What it contains or runs.
        workloads: Workloads that it belongs to; empty if it names none.
        usd: Cost per month; None if the price is not known.
        idle: Why it counts as idle; empty if it does not, or if that is unknown.
        remove: Removes it. Raises MlopsError.
    """

    kind: str
    name: str
    detail: str
    workloads: frozenset[str]
    usd: float | None
    remove: Callable[[], None] = field(repr=False, compare=False)
    idle: str = ""

    @property
    def title(self) -> str:
        """Kind and name."""
        return f"{self.kind} {self.name}"

    def to_dict(self) -> dict[str, Any]:
        """Return the fields that may be shown, ready for JSON."""
        return {
            "kind": self.kind,
            "name": self.name,
            "detail": self.detail,
            "workloads": sorted(self.workloads),
            "usd_per_month": self.usd,
            "idle": self.idle,
        }


@dataclass(frozen=True)
class Search:
    """What is looked for.

    Attributes:
        settings: Where in Azure.
        workload: Only things that belong to it; empty for all.
        models: Whether to include models.
        data: Whether to include data assets.
        idle_days: An endpoint is idle after so many days without a request.
    """

    settings: AzureSettings
    workload: str = ""
    models: bool = False
    data: bool = False
    idle_days: int = 7

    def wants(self, thing: MadeThing) -> bool:
        """Return whether to remove a thing. What several workloads share is not removed for one of them."""
        return not self.workload or thing.workloads == {self.workload}
