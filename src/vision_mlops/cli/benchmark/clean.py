"""``mlops benchmark clean``: what contestants made in services is listed and removed."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from vision_mlops.cli.benchmark.benchmark_choice import benchmark_name
from vision_mlops.cli.options import DEFAULT_WORKLOAD, WorkloadOption
from vision_mlops.cli.output import emit_table, fail, say


def clean(
    workload: WorkloadOption = DEFAULT_WORKLOAD,
    with_: Annotated[
        list[str] | None,
        typer.Option("--with", metavar="NAME", help="Only of this contestant. Repeatable.", show_default="all"),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Remove what contestants made in services, and what is left of interrupted ones, after listing it.

    Their results stay. Exit code 1 where something could not be removed.

    Example: `mlops benchmark clean --workload textile --with custom-vision`
    """
    from vision_mlops.benchmark.benchmark_folder import BenchmarkFolder
    from vision_mlops.benchmark.service_leftovers import leftovers, remove_leftovers
    from vision_mlops.core.errors import MlopsError
    from vision_mlops.core.text import counted, nearest

    folder = BenchmarkFolder(benchmark_name(workload)[0])
    known = {work.path.parent.name for work in folder.all_work()} | set(folder.names())
    if unknown := sorted(set(with_ or ()) - known):
        raise MlopsError(
            f"no contestant {unknown[0]!r} has run on {folder.workload}", nearest(unknown[0], sorted(known), "none has")
        )
    found = leftovers(folder, with_ or [], say)
    rows = [
        {"contestant": item.name, "service": "yes" if item.in_a_service else "no", "begun": item.begun[:10],
         "data": item.fingerprint[:12]} for item in found
    ]  # fmt: skip
    emit_table(rows, as_json=False, empty="there is nothing to remove")
    if not found:
        return
    if not yes:
        if not sys.stdin.isatty():
            raise MlopsError(f"{counted(len(found), 'entry')} would be removed for good", "add --yes to remove")
        if not typer.confirm(f"Remove {counted(len(found), 'entry')} for good?", default=False, err=True):
            say("nothing was removed")
            raise typer.Exit(1)
    with folder.locked():
        failed = remove_leftovers(found, say)
    for problem in failed:
        fail(problem)
    if failed:
        say("run the same command again: it goes on with what is left")
        raise typer.Exit(1)
