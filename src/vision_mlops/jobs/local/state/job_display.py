"""Shows a running job to the user: a live tree of its steps on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from typing import Any

from vision_mlops.jobs.local.state.job_state import JobState, Status, StepState, seconds_between

_SIGNS = {
    Status.WAITING: ("·", "dim"),
    Status.RUNNING: ("▶", "cyan"),
    Status.COMPLETED: ("✓", "green"),
    Status.REUSED: ("↺", "green"),
    Status.FAILED: ("✗", "red"),
    Status.CANCELED: ("■", "yellow"),
    Status.SKIPPED: ("–", "dim"),
    Status.INTERRUPTED: ("■", "yellow"),
}
_REFRESH_SECONDS = 0.25


class Display(AbstractContextManager["Display", None]):
    """Shows a job; this one shows nothing. All methods are called from the thread that runs it."""

    def __exit__(self, *_: object) -> None:
        return None

    def line(self, step: str, text: str) -> None:
        """Show a line that a step wrote."""

    def note(self, text: str) -> None:
        """Show what the user should know about the job as a whole."""

    def changed(self, state: JobState, step: str) -> None:
        """Show that the state of a step has changed."""

    def tick(self, state: JobState) -> None:
        """Show that time has passed."""


def open_display(*, quiet: bool = False) -> Display:
    """Open a live tree if standard error is a terminal, otherwise lines; with ``quiet`` only changes of state."""
    if sys.stderr.isatty() and not quiet:
        return LiveDisplay()
    return PlainDisplay(quiet=quiet)


def words(name: str, step: StepState) -> str:
    """Describe the state of a step in words."""
    if step.status is Status.REUSED:
        return f"{name}: reused, nothing that it depends on has changed"
    took = f" after {duration(step.seconds)}" if step.status.over and step.seconds else ""
    detail = f": {step.message}" if step.message else ""
    return f"{name}: {step.status.value.lower()}{took}{detail}"


def duration(seconds: float) -> str:
    """Format seconds as 3.2 s, 2 min 05 s or 1 h 02 min."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


class PlainDisplay(Display):
    """Lines on standard error: changes of state, and the output of the steps after the name of the step."""

    def __init__(self, *, quiet: bool = False, write: Callable[[str], None] | None = None) -> None:
        self._quiet = quiet
        self._write = write or _to_stderr

    def line(self, step: str, text: str) -> None:
        """Write the line."""
        if not self._quiet:
            self._write(f"{step} | {text}")

    def note(self, text: str) -> None:
        """Write the note."""
        self._write(text)

    def changed(self, state: JobState, step: str) -> None:
        """Write the state."""
        sign = _SIGNS[state.steps[step].status][0]
        self._write(f"{sign} {words(step, state.steps[step])}")


class LiveDisplay(Display):
    """The tree stays at the bottom of the terminal while lines pass above it."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live

        self._console = Console(stderr=True, highlight=False)
        self._live = Live(console=self._console, auto_refresh=False, transient=True)
        self._drawn = 0.0
        self._state: JobState | None = None

    def __enter__(self) -> LiveDisplay:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()
        if self._state is not None:
            self._console.print(self._tree(self._state))

    def line(self, step: str, text: str) -> None:
        """Print the line above the tree."""
        from rich.text import Text

        self._console.print(Text.assemble((f"{step} │ ", "dim"), text))

    def note(self, text: str) -> None:
        """Print the note above the tree."""
        self._console.print(text, markup=False)

    def changed(self, state: JobState, step: str) -> None:
        """Draw the tree again."""
        self._draw(state)

    def tick(self, state: JobState) -> None:
        """Update the elapsed times."""
        if time.monotonic() - self._drawn > _REFRESH_SECONDS:
            self._draw(state)

    def _draw(self, state: JobState) -> None:
        self._state = state
        self._drawn = time.monotonic()
        self._live.update(self._tree(state), refresh=True)

    def _tree(self, state: JobState) -> Any:
        from rich.text import Text
        from rich.tree import Tree

        tree = Tree(
            Text.assemble((state.name, "bold"), (f"  {state.display_name}" if state.display_name else "", "dim"))
        )
        branches = {"": tree}
        for name, step in state.steps.items():
            *above, last = name.split("/")
            for depth in range(len(above)):
                path = "/".join(above[: depth + 1])
                if path not in branches:
                    branches[path] = branches["/".join(above[:depth])].add(Text(above[depth], "bold"))
            branches["/".join(above)].add(_row(last, step))
        return tree


def _row(label: str, step: StepState) -> Any:
    from rich.text import Text

    sign, style = _SIGNS[step.status]
    running = step.status is Status.RUNNING
    seconds = seconds_between(step.started, step.ended) if running else step.seconds
    note = "reused" if step.status is Status.REUSED else duration(seconds) if seconds else ""
    detail = step.details.get("progress", "") if running else step.message
    return Text.assemble((f"{sign} ", style), f"{label}  ", (note, "dim"), (f"  {detail}" if detail else "", style))


def _to_stderr(text: str) -> None:
    with suppress(BrokenPipeError):  # nobody reads it any more; the job continues
        print(text, file=sys.stderr, flush=True)  # noqa: T201 - messages for people go to standard error
