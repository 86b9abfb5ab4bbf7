"""Which function is behind each command of ``mlops``, for those who need to know what code a command runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import typer

CALLBACKS: dict[str, Callable[..., Any]] = {}
"""By the words of the command, such as ``data prepare``; filled when :mod:`vision_mlops.cli.main` is imported."""


def name_all(app: typer.Typer) -> None:
    """Take down all commands of the command line."""
    CALLBACKS.update(_below(app, ""))


def _below(app: typer.Typer, prefix: str) -> Iterator[tuple[str, Callable[..., Any]]]:
    from typer.main import get_command_name

    for info in app.registered_commands:
        if info.callback is not None:
            yield prefix + (info.name or get_command_name(info.callback.__name__)), info.callback
    for group in app.registered_groups:
        if group.typer_instance is not None:
            own = group.typer_instance.registered_callback
            if own is not None and own.callback is not None and own.invoke_without_command is True:
                yield f"{prefix}{group.name}", own.callback  # a command that has commands of its own
            yield from _below(group.typer_instance, f"{prefix}{group.name} ")
