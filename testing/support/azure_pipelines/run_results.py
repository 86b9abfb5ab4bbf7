"""What became of a run: results of its stages, jobs and steps, tags, summaries, tests, artifacts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

SUCCEEDED, ISSUES, FAILED, CANCELED, SKIPPED = "Succeeded", "SucceededWithIssues", "Failed", "Canceled", "Skipped"
GOOD = (SUCCEEDED, ISSUES)


@dataclass
class StepResult:
    """One step that was looked at."""

    title: str
    result: str
    seconds: float = 0.0
    log: str = ""
    errors: list[str] = field(default_factory=list)


@dataclass
class JobResult:
    """One job: outputs are called ``step.variable``, with the job's name before them in a deployment."""

    name: str
    result: str = SUCCEEDED
    outputs: dict[str, str] = field(default_factory=dict)
    steps: list[StepResult] = field(default_factory=list)

    def step(self, title: str) -> StepResult:
        """A step by what people see."""
        return next(step for step in self.steps if step.title == title)


@dataclass
class StageResult:
    """One stage."""

    name: str
    result: str = SUCCEEDED
    jobs: dict[str, JobResult] = field(default_factory=dict)


@dataclass
class Published:
    """What steps hand over to the run.

    Attributes:
        tags: Of the build.
        summaries: Markdown.
        tests: How many ran and failed, for each task that published some.
        coverage: Shares of lines.
        artifacts: Folders by their names.
        issues: Errors and warnings.
    """

    folder: Path
    tags: list[str] = field(default_factory=list)
    summaries: list[str] = field(default_factory=list)
    tests: list[tuple[int, int]] = field(default_factory=list)
    coverage: list[float] = field(default_factory=list)
    artifacts: dict[str, Path] = field(default_factory=dict)
    issues: list[str] = field(default_factory=list)


def of_parts(results: Iterable[str]) -> str:
    """The result of a whole by those of its parts."""
    found = list(results)
    for bad in (FAILED, CANCELED):
        if bad in found:
            return bad
    if found and all(result == SKIPPED for result in found):
        return SKIPPED
    return ISSUES if ISSUES in found else SUCCEEDED


def ancestors(name: str, graph: Mapping[str, Iterable[str]]) -> set[str]:
    """All that something depends on, directly or not."""
    found: set[str] = set()
    waiting = list(graph[name])
    while waiting:
        one = waiting.pop()
        if one not in found:
            found.add(one)
            waiting += graph[one]
    return found
