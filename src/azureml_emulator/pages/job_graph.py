"""The graph of a job: its steps, their dependencies, and their positions."""

from __future__ import annotations

import re
from dataclasses import dataclass

from azureml_emulator.jobs.emulated_job import EmulatedJob
from azureml_emulator.resources.asset_references import texts
from azureml_emulator.rest.rest_calls import Json

WIDTH, HEIGHT = 168, 52
_ACROSS, _DOWN, _MARGIN = 20, 34, 6
_OUTPUT = re.compile(r"\$\{\{\s*parent\.jobs\.([\w-]+)\.outputs\.")


@dataclass(frozen=True)
class DrawnStep:
    """A step, and the upper left corner of its box, in pixels."""

    name: str
    status: str
    after: tuple[str, ...]
    left: int = 0
    top: int = 0

    @property
    def short_name(self) -> str:
        """Return as much of the name as fits into the box."""
        return self.name if len(self.name) <= 17 else f"{self.name[:16]}…"


@dataclass(frozen=True)
class JobGraph:
    """All steps, in the order in which they can run.

    ``lines`` are SVG paths from one box to another; implied ones are left out.
    """

    steps: tuple[DrawnStep, ...]
    lines: tuple[str, ...]
    width: int
    height: int


def waits_for(job: Json) -> dict[str, tuple[str, ...]]:
    """Return the steps of a job, each with the steps whose outputs it uses."""
    steps: Json = job.get("jobs") or {}
    found = {}
    for name, node in steps.items():
        used = [match for text in texts((node or {}).get("inputs") or {}) for match in _OUTPUT.findall(text)]
        found[name] = tuple(dict.fromkeys(step for step in used if step in steps and step != name))
    return found


def graph_of(record: EmulatedJob) -> JobGraph:
    """Return the graph of a job; steps that are not reported yet have not started. Trials of a sweep wait for nothing."""
    waiting = waits_for(record.resource.properties)
    for name in record.state.steps:
        waiting.setdefault(name, ())
    rows: dict[int, list[str]] = {}
    for name, depth in _depths(waiting).items():
        rows.setdefault(depth, []).append(name)
    widest = max((len(row) for row in rows.values()), default=0)
    width = widest * (WIDTH + _ACROSS) - _ACROSS + 2 * _MARGIN
    drawn: dict[str, DrawnStep] = {}
    for level, (_, row) in enumerate(sorted(rows.items())):
        indent = (width - len(row) * (WIDTH + _ACROSS) + _ACROSS) // 2
        for number, name in enumerate(row):
            status = record.state.steps[name].status if name in record.state.steps else "NotStarted"
            left, top = indent + number * (WIDTH + _ACROSS), _MARGIN + level * (HEIGHT + _DOWN)
            drawn[name] = DrawnStep(name, status, waiting[name], left, top)
    lines = [_line(drawn[before], step) for step in drawn.values() for before in _nearest(step.name, waiting)]
    height = len(rows) * (HEIGHT + _DOWN) - _DOWN + 2 * _MARGIN
    return JobGraph(tuple(drawn.values()), tuple(lines), width, height)


def _depths(waiting: dict[str, tuple[str, ...]]) -> dict[str, int]:
    """Return the row of each step: below all that it waits for; steps that wait for each other end up in the last rows."""
    found = dict.fromkeys(waiting, 0)
    for _ in waiting:
        for name, before in waiting.items():
            found[name] = min(len(waiting) - 1, max((found[step] + 1 for step in before), default=0))
    return found


def _nearest(name: str, waiting: dict[str, tuple[str, ...]]) -> list[str]:
    """Return what a step waits for, without indirect dependencies."""
    implied: set[str] = set()
    left = [step for before in waiting[name] for step in waiting[before]]
    while left:
        step = left.pop()
        if step not in implied:
            implied.add(step)
            left += waiting[step]
    return [before for before in waiting[name] if before not in implied]


def _line(start: DrawnStep, end: DrawnStep) -> str:
    """Return a path from the lower edge of one box to the upper edge of another."""
    x1, y1 = start.left + WIDTH // 2, start.top + HEIGHT
    x2, y2 = end.left + WIDTH // 2, end.top
    bend = (y2 - y1) // 2
    return f"M{x1} {y1}C{x1} {y1 + bend} {x2} {y2 - bend} {x2} {y2}"
