"""Something that was made in Azure: what it is, whose, what it costs, whether it idles, and how it is removed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from vision_mlops.config.azure_settings import AzureSettings

KINDS = (
    "schedule", "pipeline", "online endpoint", "batch endpoint", "container group", "aks endpoint", "web app", "cluster",
    "model", "data",
)  # fmt: skip
"""In the order in which they are removed: what starts others first, what others need last."""
FREE = 0.0


@dataclass(frozen=True)
class MadeThing:
    """One thing.

    Attributes:
        kind: One of :data:`KINDS`.
        name: Of it.
        detail: What it holds or runs.
        workloads: Those that it belongs to; empty where it says none.
        usd: What it costs a month; None where the price is not known.
        idle: Why it is taken for idle; empty where it is not, or where nobody can say.
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
        """What may be shown, ready for JSON."""
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
        workload: Only what belongs to it; empty for all.
        models: Models, too.
        data: Data assets, too.
        idle_days: Without a request for so many days an endpoint idles.
    """

    settings: AzureSettings
    workload: str = ""
    models: bool = False
    data: bool = False
    idle_days: int = 7

    def wants(self, thing: MadeThing) -> bool:
        """Whether a thing is to be removed. What several workloads share is not removed for one of them."""
        return not self.workload or thing.workloads == {self.workload}
