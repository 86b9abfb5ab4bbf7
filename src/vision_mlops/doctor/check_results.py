"""Results of checks: fine, a warning or a failure, with the command or setting that fixes it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Outcome(StrEnum):
    """How a check ended."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """One check.

    Attributes:
        name: What was checked, such as ``disk``.
        outcome: How it ended.
        detail: What was found, in one line.
        fix: The exact command or setting that fixes it; empty where all is fine.
    """

    name: str
    outcome: Outcome
    detail: str
    fix: str = ""

    def __post_init__(self) -> None:
        """Refuse a problem without a fix."""
        if self.outcome is not Outcome.OK and not self.fix:
            raise ValueError(f"the check {self.name!r} reports a problem without a fix")


def ok(name: str, detail: str) -> Diagnosis:
    """Return the result of a check that found nothing wrong."""
    return Diagnosis(name, Outcome.OK, detail)


def warning(name: str, detail: str, fix: str) -> Diagnosis:
    """Return the result of a check that found a possible problem."""
    return Diagnosis(name, Outcome.WARN, detail, fix)


def failure(name: str, detail: str, fix: str) -> Diagnosis:
    """Return the result of a check that found a problem."""
    return Diagnosis(name, Outcome.FAIL, detail, fix)


def failed(results: Iterable[Diagnosis]) -> list[Diagnosis]:
    """Return those that failed."""
    return [result for result in results if result.outcome is Outcome.FAIL]
