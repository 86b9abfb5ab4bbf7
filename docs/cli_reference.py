"""The text of docs/cli.md: every command, from the command line's own help."""

from __future__ import annotations

from typing import Any

import typer

from vision_mlops.cli.main import app


def reference() -> str:
    """Return the whole reference in Markdown."""
    lines = ["# Command line", "", "`make docs` generates this page. Each command prints the same with `--help`.", ""]
    _describe(typer.main.get_command(app), "mlops", lines)
    return "\n".join(lines)


def _describe(command: Any, path: str, lines: list[str]) -> None:
    help_text = "\n".join(line.strip() for line in (command.help or "").strip().splitlines())
    lines += [f"## `{path}`", "", help_text, ""]
    options = [parameter for parameter in command.params if not getattr(parameter, "hidden", False)]
    rows = [
        (", ".join([*option.opts, *option.secondary_opts]), getattr(option, "help", "") or "") for option in options
    ]
    if rows:
        lines += ["| argument or option | meaning |", "| --- | --- |"]
        lines += [f"| `{names}` | {text} |" for names, text in rows] + [""]
    for name, child in sorted(getattr(command, "commands", {}).items()):
        _describe(child, f"{path} {name}", lines)
