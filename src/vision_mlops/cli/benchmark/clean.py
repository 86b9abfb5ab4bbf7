"""``mlops benchmark clean``: list and remove what contestants created in services."""

from __future__ import annotations

from typing import Annotated

import typer

from vision_mlops.cli.benchmark.benchmark_choice import benchmark_name
from vision_mlops.cli.options import DEFAULT_WORKLOAD, WorkloadOption, YesOption
from vision_mlops.cli.output import confirm, emit_table, fail, say
from vision_mlops.core.errors import MlopsError
from vision_mlops.core.text import counted, nearest


def clean(
    workload: WorkloadOption = DEFAULT_WORKLOAD,
    with_: Annotated[
        list[str] | None,
        typer.Option(
            "--with", metavar="NAME", help="Remove only what this contestant made. Repeatable.", show_default="all"
        ),
    ] = None,
    yes: YesOption = False,
) -> None:
    """Remove what contestants created in services, and what interrupted ones left, after listing it.

    Their results are kept. Exit code 1 if something could not be removed.

    Example: `mlops benchmark clean --workload textile --with custom-vision`
    """
    from vision_mlops.benchmark.benchmark_folder import BenchmarkFolder
    from vision_mlops.benchmark.service_leftovers import leftovers, remove_leftovers

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
    question = f"Remove {counted(len(found), 'entry')} for good?"
    confirm(question, yes=yes, hint="add --yes to remove", declined="nothing was removed")
    with folder.locked():
        failed = remove_leftovers(found, say)
    for problem in failed:
        fail(problem)
    if failed:
        say("run the same command again to continue with what is left")
        raise typer.Exit(1)
