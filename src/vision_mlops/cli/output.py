"""What commands print: results on standard output, messages on standard error."""

from __future__ import annotations

import codecs
import json
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from typing import Any

import typer

from vision_mlops.core.errors import MlopsError

ShowBar = Callable[..., None]


class GlobalOptions:
    """Options of the whole command line, set once by the root callback."""

    verbose: bool = False


def say(text: str) -> None:
    """Print a line for the person at the terminal, on standard error."""
    typer.echo(text, err=True)


def warn(text: str) -> None:
    """Print a warning on standard error, in colour on a terminal."""
    typer.secho(f"warning: {text}", err=True, fg=typer.colors.YELLOW)


def fail(text: str) -> None:
    """Print an error on standard error, in colour on a terminal."""
    typer.secho(f"error: {text}", err=True, fg=typer.colors.RED)


def width(without_terminal: int) -> int:
    """Return the number of columns to print in: COLUMNS, that of the terminal, or the given one."""
    return shutil.get_terminal_size((without_terminal, 0)).columns


@contextmanager
def bars(*, speed: bool = False) -> Iterator[tuple[ShowBar | None, Callable[[str], None]]]:
    """Show progress bars on standard error where that is a terminal.

    Args:
        speed: Also show how many bytes are done a second.

    Yields:
        A function that moves a bar, None without a terminal; and one that prints a line beside the bars. The first takes the
        name of a bar, what is done, the total where it is known, the amount in words, and a title in place of the name.
    """
    if not sys.stderr.isatty():
        yield None, say
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[amount]}"))
    last = (TransferSpeedColumn(), TimeRemainingColumn()) if speed else (TimeRemainingColumn(),)
    with Progress(*columns, *last, console=Console(stderr=True), transient=True) as progress:
        tasks: dict[str, TaskID] = {}

        def show(name: str, done: int, total: int | None, amount: str, title: str = "") -> None:
            if name not in tasks:
                tasks[name] = progress.add_task(name, total=total, amount=amount)
            progress.update(tasks[name], completed=done, total=total, amount=amount, description=title or name)

        yield show, lambda text: progress.console.print(text, highlight=False, markup=False)


@contextmanager
def count_bar(what: str, then: str = "") -> Iterator[Callable[[int, int], None]]:
    """Show a bar that counts.

    Args:
        what: What is counted, or done to it.
        then: What is done once all is counted.

    Yields:
        A function that takes the count so far and the total.
    """
    with bars() as (show, _):

        def count(done: int, total: int) -> None:
            if show is not None:
                show(what, done, total, f"{done}/{total}", then if done == total else "")

        yield count


@contextmanager
def transfer_bar(what: str) -> Iterator[Callable[[int, int, int, int], None] | None]:
    """Show a bar of files and bytes on a terminal; do nothing elsewhere."""
    with bars(speed=True) as (show, _):
        if show is None:
            yield None
            return

        def told(files: int, of_files: int, size: int, of_size: int) -> None:
            amount = f"{files}/{of_files} files, {size / 1e6:,.1f}/{of_size / 1e6:,.1f} MB"
            show(what, size, of_size or None, amount)

        yield told


@contextmanager
def interruptible(kept: Callable[[], str] | None = None) -> Iterator[None]:
    """Say after Ctrl-C what was kept and how to go on; exit code 130.

    Args:
        kept: Tells it, where the interrupted function does not.
    """
    try:
        yield
    except KeyboardInterrupt as error:
        say(str(error) or ("interrupted" if kept is None else f"interrupted; {kept()}"))
        raise typer.Exit(130) from None


def confirm(question: str, *, yes: bool, hint: str, declined: str) -> None:
    """Ask at the terminal, unless ``yes`` was given.

    Args:
        question: Ends with a question mark.
        yes: Whether the answer was given already.
        hint: What to do where there is no terminal.
        declined: Said where the answer is no.

    Raises:
        MlopsError: there is no terminal to ask at.
        typer.Exit: the answer is no.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise MlopsError(f"there is no terminal to ask at: {question}", hint)
    if not typer.confirm(question, err=True):
        say(declined)
        raise typer.Exit(1)


def emit_json(value: Any) -> None:
    """Print a value as indented JSON on standard output: a dataclass as its fields, other objects as their text."""
    # Any other encoding may lack a character, and what stands for it then need not be JSON.
    shown = codecs.lookup(sys.stdout.encoding or "utf-8").name.startswith("utf")
    typer.echo(json.dumps(value, indent=2, ensure_ascii=not shown, default=_plain))


def _plain(value: Any) -> Any:
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else str(value)


def emit(content: Any, text: str, *, as_json: bool) -> None:
    """Print a result: its content as JSON, or a line about it."""
    if as_json:
        emit_json(content)
    else:
        typer.echo(text)


def emit_table(
    rows: Sequence[Mapping[str, Any]], *, as_json: bool, content: Any = None, empty: str = "nothing to show"
) -> None:
    """Print rows, all with the keys of the first, as an aligned table or as a JSON list.

    Args:
        rows: The rows.
        as_json: Print JSON: the rows, or the content.
        content: What JSON shows where it is not the rows.
        empty: Said where there are no rows.
    """
    if as_json:
        emit_json(list(rows) if content is None else content)
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
