"""Plain records of jobs, endpoints and schedules of Azure ML, for people and JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

FINAL = frozenset({"Completed", "Failed", "Canceled", "NotResponding", "Paused"})
"""States of a job that has ended."""


@dataclass(frozen=True)
class AzureRecord:
    """A record that can be converted to plain values."""

    def to_dict(self) -> dict[str, Any]:
        """Return all fields, ready for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class JobRecord(AzureRecord):
    """A job in the workspace."""

    name: str
    status: str
    studio_url: str = ""
    type: str = ""
    display_name: str = ""
    experiment: str = ""
    created: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_final(self) -> bool:
        """Whether the job has ended."""
        return self.status in FINAL


@dataclass(frozen=True)
class StepRecord(AzureRecord):
    """A step of a job; ``name`` is that of its own run."""

    step: str
    name: str
    status: str


@dataclass(frozen=True)
class EndpointRecord(AzureRecord):
    """A published pipeline: its address, and what a call starts."""

    endpoint: str
    deployment: str
    component: str
    scoring_url: str = ""
    changed: bool = False


@dataclass(frozen=True)
class ScheduleRecord(AzureRecord):
    """A schedule; ``trigger`` in words."""

    name: str
    enabled: bool
    trigger: str
    state: str = ""
    description: str = ""


def text_of(value: Any) -> str:
    """Return a text, or a member of one of the SDK's enumerations, as text."""
    return str(getattr(value, "value", value) or "")


def job_record(job: Any) -> JobRecord:
    """Create the record of the SDK's job entity."""
    services = getattr(job, "services", None) or {}
    studio = services.get("Studio")
    context = getattr(job, "creation_context", None)
    created: Any = getattr(context, "created_at", None)
    return JobRecord(
        name=str(job.name),
        status=text_of(getattr(job, "status", None)),
        studio_url=str(getattr(studio, "endpoint", None) or ""),
        type=text_of(getattr(job, "type", None)),
        display_name=str(getattr(job, "display_name", None) or ""),
        experiment=str(getattr(job, "experiment_name", None) or ""),
        created=created.isoformat(timespec="seconds") if hasattr(created, "isoformat") else str(created or ""),
        tags={str(key): str(value) for key, value in (getattr(job, "tags", None) or {}).items()},
    )
