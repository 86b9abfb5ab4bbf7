"""``mlops down``: list what was created in Azure with its cost, and remove it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from vision_mlops.cli.options import DryRunOption, JsonOption, YesOption
from vision_mlops.cli.output import confirm, emit_json, emit_table, fail, say, warn
from vision_mlops.core.text import counted, nearest

if TYPE_CHECKING:
    from vision_mlops.teardown.made_things import MadeThing
    from vision_mlops.teardown.removal import Inventory, Removal


def down(
    workload: Annotated[
        str, typer.Option("--workload", "-w", help="Remove only what belongs to this workload.", show_default="all")
    ] = "",
    with_models: Annotated[bool, typer.Option("--with-models", help="Also archive its models.")] = False,
    with_data: Annotated[bool, typer.Option("--with-data", help="Also archive its data assets.")] = False,
    idle_days: Annotated[
        int,
        typer.Option(min=0, max=90, help="Days without a request after which an endpoint counts as idle."),
    ] = 7,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    json_: JsonOption = False,
) -> None:
    """Remove what mlops created in Azure, after listing it with an estimate of its monthly cost.

    These are endpoints with their deployments and keys, container groups, web apps with slots and plan, schedules, published
    pipelines and clusters. Models and data are kept unless you ask for them; so is what infrastructure/up.sh created.
    Endpoints without requests, and instances that never stop, are reported.

    Exit code 0: nothing is left; 1: something is left, and is named; 130: stopped by Ctrl-C.

    Example: `mlops down --workload textile --dry-run`
    """
    from vision_mlops.config.azure_settings import AzureSettings
    from vision_mlops.teardown.made_things import Search
    from vision_mlops.teardown.removal import Removal, find, remove

    search = Search(AzureSettings.load(), workload, with_models, with_data, idle_days)
    inventory = find(search)
    if workload and not inventory.problems:
        _warn_of_unknown(inventory, workload)
    if not json_:
        _list(inventory, workload)
    if dry_run or not inventory.things:
        if json_:
            emit_json(_as_dict(inventory, Removal(left=inventory.things)))
        if inventory.problems:
            raise typer.Exit(1)
        return
    confirm(
        f"Remove {counted(len(inventory.things), 'thing')} for good?", yes=yes, declined="nothing was removed",
        hint="add --yes to remove, or --dry-run to list only",
    )  # fmt: skip
    result = remove(inventory.things, say)
    if json_:
        emit_json(_as_dict(inventory, result))
    _report(result)
    if result.interrupted:
        raise typer.Exit(130)
    if not result.complete or inventory.problems:
        raise typer.Exit(1)


def _warn_of_unknown(inventory: Inventory, workload: str) -> None:
    """Warn if nothing in Azure belongs to a workload, and nothing here has its name: it may be misspelt."""
    from vision_mlops.config.workload_files import list_workloads
    from vision_mlops.core import paths

    in_azure = {name for thing in (*inventory.things, *inventory.kept) for name in thing.workloads}
    here = {path.name for room in ("data", "benchmarks") for path in (paths.home() / room).glob("[!.]*")}
    if workload not in (known := sorted({*list_workloads(), *in_azure, *here})):
        warn(f"unknown workload {workload!r}: nothing here or in Azure belongs to it\n  -> {nearest(workload, known)}")


def _list(inventory: Inventory, workload: str) -> None:
    from vision_mlops.teardown import prices

    of = f" of {workload}" if workload else ""
    emit_table([_row(thing) for thing in inventory.things], as_json=False, empty=f"nothing{of} is left in Azure")
    if inventory.things:
        unknown = [thing for thing in inventory.things if thing.usd is None]
        more = f", and {len(unknown)} of unknown price" if unknown else ""
        say(f"together about {inventory.usd:,.0f} USD a month{more} ({prices.assumption()})")
    for thing in inventory.kept:
        whose = (
            f"belongs to {', '.join(sorted(thing.workloads))}" if thing.workloads else "belongs to no known workload"
        )
        say(f"kept: {thing.title}, which {whose}")
    for note in inventory.notes:
        say(f"idle: {note}")
    for problem in inventory.problems:
        warn(f"not checked: {problem}")


def _row(thing: MadeThing) -> dict[str, Any]:
    usd = "unknown" if thing.usd is None else f"{thing.usd:,.0f}"
    return {"kind": thing.kind, "name": thing.name, "detail": thing.detail, "USD a month": usd, "idle": thing.idle}


def _report(result: Removal) -> None:
    say(f"removed: {', '.join(thing.title for thing in result.removed) or 'nothing'}")
    for thing, error in result.failed:
        fail(f"{thing.title} was not removed: {error}")
    if result.left:
        say(f"not tried, or still being removed: {', '.join(thing.title for thing in result.left)}")
    if not result.complete:
        say("run the same command again to continue with what is left")


def _as_dict(inventory: Inventory, result: Removal) -> dict[str, Any]:
    from vision_mlops.teardown import prices

    return {
        "things": [thing.to_dict() for thing in inventory.things],
        "usd_per_month": inventory.usd,
        "prices": prices.assumption(),
        "stays": [thing.to_dict() for thing in inventory.kept],
        "idle": inventory.notes,
        "not_looked_at": inventory.problems,
        "removed": [thing.title for thing in result.removed],
        "failed": [{"thing": thing.title, "problem": error.on_one_line()} for thing, error in result.failed],
        "left": [thing.title for thing in result.left],
    }
