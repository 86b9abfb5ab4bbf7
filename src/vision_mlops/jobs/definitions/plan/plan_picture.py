"""Draws the steps of a job as boxes, each below those whose outputs it reads."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path

from vision_mlops.core.figures import Picture
from vision_mlops.jobs.definitions.plan.nodes import PlannedStep
from vision_mlops.jobs.definitions.plan.planner import plan

_WIDTH, _HEIGHT, _ACROSS, _DOWN, _MARGIN = 210, 50, 60, 36, 6
_BULGE = 34
"""Pixels that a line beside the boxes bends outwards for each row that it passes."""
_LINE = 'fill="none" stroke="#888" stroke-width="1.5" marker-end="url(#tip)"'
_BOX = 'rx="6" fill="#2f6fdc" fill-opacity="0.14" stroke="#2f6fdc"'
_TIP = (
    '<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
    '<path d="M0 0L8 4L0 8Z" fill="#888"/></marker></defs>'
)


def draw_plan(file: Path) -> Picture:
    """Draw the steps of a job or component.

    Raises:
        PipelineError: the file has errors.
    """
    steps = plan(file)
    rows = _rows(steps)
    places: dict[str, tuple[int, int]] = {}
    for level, row in enumerate(rows):
        for number, name in enumerate(row):
            places[name] = (_MARGIN + number * (_WIDTH + _ACROSS), _MARGIN + level * (_HEIGHT + _DOWN))
    widest = max(len(row) for row in rows)
    width = 2 * _MARGIN + widest * (_WIDTH + _ACROSS) + _BULGE * len(rows)
    height = 2 * _MARGIN + len(rows) * (_HEIGHT + _DOWN) - _DOWN
    lines = [_line(places[before], places[step.step]) for step in steps for before in step.needs]
    boxes = [_box(step, *places[step.step]) for step in steps]
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif">'
    return Picture("".join([head, _TIP, *lines, *boxes, "</svg>"]))


def _rows(steps: Sequence[PlannedStep]) -> list[list[str]]:
    """Arrange the steps in rows: each is one row below the lowest of those that it needs, which come before it."""
    levels: dict[str, int] = {}
    for step in steps:
        levels[step.step] = max((levels[name] + 1 for name in step.needs), default=0)
    return [[name for name, own in levels.items() if own == level] for level in range(max(levels.values()) + 1)]


def _line(start: tuple[int, int], end: tuple[int, int]) -> str:
    """Draw a line between two boxes: straight down to the next row, or along the right side to a later row."""
    (x1, y1), (x2, y2) = start, end
    passed = (y2 - y1) // (_HEIGHT + _DOWN) - 1
    if not passed:
        path = f"M{x1 + _WIDTH // 2} {y1 + _HEIGHT}L{x2 + _WIDTH // 2} {y2}"
    else:
        side, middle1, middle2 = max(x1, x2) + _WIDTH + passed * _BULGE + 10, y1 + _HEIGHT // 2, y2 + _HEIGHT // 2
        path = f"M{x1 + _WIDTH} {middle1}C{side} {middle1} {side} {middle2} {x2 + _WIDTH} {middle2}"
    return f'<path d="{path}" {_LINE}/>'


def _box(step: PlannedStep, left: int, top: int) -> str:
    box = f'<rect x="{left}" y="{top}" width="{_WIDTH}" height="{_HEIGHT}" {_BOX}/>'
    given = ", ".join(step.outputs) or "no output"
    return (
        f'{box}<text x="{left + 12}" y="{top + 21}" font-size="14" fill="#2f6fdc">{html.escape(step.step)}</text>'
        f'<text x="{left + 12}" y="{top + 39}" font-size="11" fill="#777">{html.escape(given)}</text>'
    )
