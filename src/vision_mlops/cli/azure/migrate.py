"""``mlops migrate``: find what a repository has to change to leave version 1 of Azure ML."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Annotated

import typer

from vision_mlops.cli.options import JsonOption, SeverityOption
from vision_mlops.cli.output import emit_json, say
from vision_mlops.core.errors import Severity
from vision_mlops.core.text import counted

app = typer.Typer(no_args_is_help=True)


@app.command()
def scan(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of the repository.")],
    fail_on: SeverityOption = "never",
    json_: JsonOption = False,
) -> None:
    """Find calls of the v1 SDK and its CLI, and retired machines, agents, tasks, images and Pythons, and what replaces them.

    Python code and the cells of notebooks are read, not run; nothing is changed, and files that git ignores are skipped.
    What is retired is an error, what retires within 180 days or cannot be read a warning, and what retires later or is
    advice a note.

    Example: `mlops migrate scan ../old-project`
    """
    from vision_mlops.doctor.migration.repository_scan import scan as run

    result = run(folder, date.today())
    if json_:
        emit_json(result.findings)
    else:
        for finding in result.findings:
            typer.echo(str(finding))
    for name in result.too_large:
        say(f"{name} was skipped: it is too large")
    where = len({finding.file for finding in result.findings})
    counts = [
        counted(sum(finding.severity is severity for finding in result.findings), str(severity))
        for severity in Severity
    ]
    say(f"{', '.join(counts)} in {where} of {counted(result.files, 'file')}")
    if result.fails(fail_on):
        raise typer.Exit(1)
