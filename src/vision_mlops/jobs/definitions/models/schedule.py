"""Models of a schedule: what it starts, and when."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from vision_mlops.jobs.definitions.models.base_model import (
    BY_TYPE,
    DefinitionModel,
    Described,
    Free,
    JobIdentity,
    Named,
    problem,
)
from vision_mlops.jobs.definitions.models.ports import InputValue

_FIELDS = (("minute", 0, 59), ("hour", 0, 23), ("day of month", 1, 31), ("month", 1, 12), ("day of week", 0, 6))
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_NAMES = {
    "month": {name: number for number, name in enumerate(_MONTHS, 1)},
    "day of week": {name: number for number, name in enumerate(_DAYS)},
}
_ITEM = re.compile(r"(?:\*|(\w+)(?:-(\w+))?)(?:/(\d+))?")


def cron_problem(expression: str) -> tuple[str, str] | None:
    """Say what is wrong with a cron expression and how to fix it; None if it is valid."""
    parts = expression.split()
    if len(parts) != len(_FIELDS):
        return (
            f"the cron expression {expression!r} has {len(parts)} fields, not 5",
            "write minute, hour, day of month, month, day of week: `0 6 * * 1`",
        )
    for part, (name, low, high) in zip(parts, _FIELDS, strict=True):
        for item in part.split(","):
            if reason := _item_problem(item, name, low, high):
                return (
                    f"{reason} in the cron expression {expression!r}",
                    f"{name} accepts {low} to {high}, *, */2, 1-5 or 1,3",
                )
    return None


def _item_problem(item: str, name: str, low: int, high: int) -> str:
    match = _ITEM.fullmatch(item)
    if not match:
        return f"{name} {item!r} is not valid"
    first, last, step = match.groups()
    numbers = [_number(text, name) for text in (first, last) if text is not None]
    if any(number is None or not low <= number <= high for number in numbers):
        return f"{name} {item!r} is out of range"
    if len(numbers) == 2 and (numbers[0] or 0) > (numbers[1] or 0):
        return f"{name} {item!r} runs backwards"
    if step is not None and int(step[:6]) == 0:
        return f"{name} {item!r} has a step of 0"
    return ""


def _number(text: str, name: str) -> int | None:
    return int(text) if text.isdigit() and len(text) < 4 else _NAMES.get(name, {}).get(text.lower())


def _moment(value: Any) -> Any:
    try:
        datetime.fromisoformat(value)
    except (TypeError, ValueError):
        raise problem(f"{str(value)[:60]!r} is not a date and time", 'write it like "2026-01-31T06:00:00"') from None
    return value


_Moment = Annotated[str, BeforeValidator(_moment)]


class _Trigger(DefinitionModel):
    start_time: _Moment | None = None
    end_time: _Moment | None = None
    time_zone: str | None = None


class Cron(_Trigger):
    """Starts by a cron expression."""

    type: Literal["cron"]
    expression: str

    @field_validator("expression")
    @classmethod
    def _is_cron(cls, value: str) -> str:
        if found := cron_problem(value):
            raise problem(*found)
        return value


def _as_list(value: Any) -> Any:
    return value if isinstance(value, list) else [value]


_Weekday = Literal["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]
_Hour = Annotated[int, Field(ge=0, le=23)]
_Minute = Annotated[int, Field(ge=0, le=59)]
_MonthDay = Annotated[int, Field(ge=1, le=31)]


class Pattern(DefinitionModel):
    """Times of day, and days, of a recurrence."""

    hours: Annotated[list[_Hour], BeforeValidator(_as_list), Field(min_length=1)]
    minutes: Annotated[list[_Minute], BeforeValidator(_as_list), Field(min_length=1)]
    week_days: Annotated[list[_Weekday], BeforeValidator(_as_list)] | None = None
    month_days: Annotated[list[_MonthDay], BeforeValidator(_as_list)] | None = None


class Recurrence(_Trigger):
    """Starts at regular intervals."""

    type: Literal["recurrence"]
    frequency: Literal["minute", "hour", "day", "week", "month"]
    interval: Annotated[int, Field(ge=1)]
    schedule: Pattern | None = None

    @model_validator(mode="after")
    def _days_fit_the_frequency(self) -> Recurrence:
        pattern = self.schedule
        if pattern and self.frequency in ("minute", "hour"):
            raise problem(
                f"a recurrence by {self.frequency} accepts no schedule", "use day, week or month, or remove it"
            )
        if pattern and pattern.week_days and self.frequency != "week":
            raise problem(f"week_days do not apply to a recurrence by {self.frequency}", "use `frequency: week`")
        if pattern and pattern.month_days and self.frequency != "month":
            raise problem(f"month_days do not apply to a recurrence by {self.frequency}", "use `frequency: month`")
        return self


class ScheduledJob(Described):
    """A job with changes that the schedule makes to it."""

    type: Literal["pipeline", "command", "sweep"] | None = None
    job: Annotated[str, Field(min_length=1)]
    inputs: dict[str, InputValue] = Field(default_factory=dict)
    settings: Free | None = None
    experiment_name: str | None = None
    compute: str | None = None
    identity: JobIdentity | None = None


class Schedule(Named):
    """A job and its trigger."""

    read_only_keys: ClassVar[frozenset[str]] = frozenset({"creation_context", "is_enabled", "provisioning_state"})

    id: str | None = None
    name: Annotated[str, Field(min_length=1)]
    trigger: Annotated[Cron | Recurrence, Field(discriminator="type"), BY_TYPE]
    create_job: str | Free | None = None
    create_monitor: Free | None = None
    import_data: str | Free | None = None

    @model_validator(mode="after")
    def _starts_something(self) -> Schedule:
        given = [key for key in ("create_job", "create_monitor", "import_data") if getattr(self, key) is not None]
        if not given:
            raise problem("a schedule has neither create_job nor create_monitor nor import_data", "give one of them")
        if len(given) > 1:
            raise problem(f"a schedule has both {given[0]} and {given[1]}", "give one of them")
        return self
