"""What commands print: results on standard output, everything said to a person on standard error."""

from __future__ import annotations

import codecs
import json
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import typer


class GlobalOptions:
    """Options of the whole command line, set once by the root callback."""

    verbose: bool = False


def say(text: str) -> None:
    """One line for the person at the terminal, on standard error."""
    typer.echo(text, err=True)


def warn(text: str) -> None:
    """A warning on standard error, coloured on a terminal."""
    typer.secho(f"warning: {text}", err=True, fg=typer.colors.YELLOW)


def fail(text: str) -> None:
    """An error on standard error, coloured on a terminal."""
    typer.secho(f"error: {text}", err=True, fg=typer.colors.RED)


def width(without_terminal: int) -> int:
    """Columns to print in: COLUMNS where that is a number above zero, those of the terminal, or the given ones."""
    return shutil.get_terminal_size((without_terminal, 0)).columns


@contextmanager
def count_bar(what: str, then: str = "") -> Iterator[Callable[[int, int], None]]:
    """A bar on standard error where that is a terminal, nothing elsewhere.

    Args:
        what: What is counted, or done to it.
        then: What is done once all is counted.

    Yields:
        A function that takes the count so far and the total.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(
            task, completed=done, total=total, description=then if then and done == total else what
        )


def emit_json(value: Any) -> None:
    """Print a value as indented JSON on standard output."""
    # Any other encoding may lack a character, and what stands for it then need not be JSON.
    shown = codecs.lookup(sys.stdout.encoding or "utf-8").name.startswith("utf")
    typer.echo(json.dumps(value, indent=2, ensure_ascii=not shown, default=str))


def emit_table(rows: Sequence[Mapping[str, Any]], *, as_json: bool, empty: str = "nothing to show") -> None:
    """Print rows as an aligned table, or as a JSON list. All rows have the keys of the first."""
    if as_json:
        emit_json(list(rows))
        return
    if not rows:
        say(empty)
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    for key in rows[0]:
        table.add_column(str(key).replace("_", " "), overflow="fold")
    for row in rows:
        table.add_row(*("" if value is None else str(value) for value in row.values()))
    Console(width=width(200), highlight=False).print(table)
