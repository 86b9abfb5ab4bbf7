"""``mlops migrate``: the way from version 1 of Azure ML to here."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Annotated

import typer

from vision_mlops.cli.options import FailOnSeverity, JsonOption
from vision_mlops.cli.output import emit_json, say
from vision_mlops.core.errors import Severity
from vision_mlops.core.text import counted

app = typer.Typer(no_args_is_help=True, help="Find what of version 1 of Azure ML a repository uses.")


@app.callback()
def _group() -> None:
    """Keep `scan` a command of its own while it is the only one."""


@app.command()
def scan(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of the repository.")],
    fail_on: Annotated[
        FailOnSeverity, typer.Option("--fail-on", help="Exit with code 1 at this severity or above.")
    ] = FailOnSeverity.NEVER,
    json_: JsonOption = False,
) -> None:
    """Find calls of the v1 SDK and its CLI, and retired machines, agents, tasks, images and Pythons, and what replaces them.

    Python code and the cells of notebooks are read, not run; nothing is changed, and what git ignores is
    passed over. What has ended is an error, what ends within 180 days or cannot be read a warning, and
    what ends later or is advice a note.

    Example: `mlops migrate scan ../old-project`
    """
    from vision_mlops.doctor.migration.repository_scan import scan as run

    result = run(folder, date.today())
    if json_:
        emit_json([finding.to_dict() for finding in result.findings])
    else:
        for finding in result.findings:
            typer.echo(str(finding))
    for name in result.too_large:
        say(f"{name} was passed over: it is too large")
    where = len({finding.file for finding in result.findings})
    counts = [
        counted(sum(finding.severity is severity for finding in result.findings), str(severity))
        for severity in Severity
    ]
    say(f"{', '.join(counts)} in {where} of {counted(result.files, 'file')}")
    if result.fails(fail_on.value):
        raise typer.Exit(1)
