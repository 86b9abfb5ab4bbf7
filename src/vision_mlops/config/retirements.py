"""What Azure and its neighbours retire, with the day: services, SDKs, sizes of machines, agents, actions.

The table is ``retirements.yml``. A user is warned before the day; a test of this repository fails after it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field

WARNING_DAYS = 180
"""How many days before the last one a use becomes a warning."""
Kind = Literal["sku", "agent", "action", "python", "package", "service", "task", "image"]
_TABLE = Path(__file__).with_name("retirements.yml")


class Retirement(BaseModel):
    """One row of the table."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    what: str
    kind: Kind
    pattern: Annotated[str, Field(min_length=1)]
    """Regular expression for the whole name of what is used."""
    day: date
    """The last day of its support."""
    replacement: str
    source: str
    """Title of the announcement or page."""

    def matches(self, kind: str, name: str) -> bool:
        """Return whether something that is used is this."""
        return kind == self.kind and re.fullmatch(self.pattern, name, re.IGNORECASE) is not None


@dataclass(frozen=True, order=True)
class Use:
    """Something that is used, and where: a file of the project, or a setting."""

    kind: str
    name: str
    where: str


@dataclass(frozen=True)
class RetiredUse:
    """A use of something that is in the table."""

    use: Use
    retirement: Retirement

    def is_over(self, today: date) -> bool:
        """Return whether the day has come."""
        return today >= self.retirement.day

    def is_near(self, today: date) -> bool:
        """Return whether the day is at most :data:`WARNING_DAYS` away, or over."""
        return today >= self.retirement.day - timedelta(days=WARNING_DAYS)

    def describe(self, today: date) -> str:
        """Say what is used where, and when it is retired."""
        verb = "was retired" if self.is_over(today) else "is retired"
        where = f" ({self.use.where})" if self.use.where else ""
        return f"{self.use.name}{where}: {self.retirement.what} {verb} on {self.retirement.day}"


@cache
def retirements() -> tuple[Retirement, ...]:
    """Read the table."""
    rows = yaml.safe_load(_TABLE.read_text(encoding="utf-8"))
    return tuple(Retirement.model_validate(row) for row in rows["retirements"])


def retired_uses(uses: Iterable[Use]) -> list[RetiredUse]:
    """Return those of some uses that are in the table, whatever the day, nearest day first."""
    found = [
        RetiredUse(use, row) for use in sorted(set(uses)) for row in retirements() if row.matches(use.kind, use.name)
    ]
    return sorted(found, key=lambda item: item.retirement.day)
