"""``mlops doctor``: checks of this machine, and of Azure."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vision_mlops.cli.options import JsonOption
from vision_mlops.cli.output import emit_json
from vision_mlops.core.errors import ConfigError, MissingExtraError
from vision_mlops.doctor.check_results import Diagnosis, Outcome, failed, failure

if TYPE_CHECKING:
    from vision_mlops.azure.preflight.name_checks import WantedName
    from vision_mlops.azure.preflight.purposes import Purpose

_COLOURS = {Outcome.OK: typer.colors.GREEN, Outcome.WARN: typer.colors.YELLOW, Outcome.FAIL: typer.colors.RED}
_NAME_WIDTH = 16


def doctor(
    azure: Annotated[
        bool, typer.Option("--azure", help="Also check Azure: sign-in, roles, quota, names, and reachable services.")
    ] = False,
    purpose: Annotated[
        str,
        typer.Option(
            "--for",
            metavar="PURPOSE",
            help="Check only what this purpose needs of Azure: jobs, managed, kubernetes-endpoint, batch, publish, aci, app,"
            " images (pushing them) or infrastructure. Implies --azure.",
            show_default="all",
        ),
    ] = "",
    names: Annotated[
        list[str] | None,
        typer.Option(
            "--name",
            metavar="KIND=NAME",
            help="Check that a name is valid and available; KIND is storage, vault, registry or webapp. Repeatable; implies"
            " --azure.",
        ),
    ] = None,
    json_: JsonOption = False,
) -> None:
    """Check this machine and the project in the working folder, with --azure also Azure; each problem comes with its fix.

    Exit code 0: no check failed, though there may be warnings; 1: a check failed. Azure is only read, never changed.

    Example: `mlops doctor`, or `mlops doctor --azure --for managed`
    """
    from vision_mlops.doctor.local_checks import check_here

    today = date.today()
    results: list[Diagnosis] = []
    wanted: list[WantedName] = []
    if names:
        from vision_mlops.azure.preflight.name_checks import parse_name

        wanted = [parse_name(text) for text in names]
    checks: list[Iterator[Diagnosis]] = [check_here(Path.cwd(), today)] if not purpose else []
    if azure or purpose or wanted:
        from vision_mlops.azure.preflight.purposes import purpose_of

        checks.append(_azure_checks(purpose_of(purpose or "all"), wanted, today))
    for result in (result for group in checks for result in group):
        results.append(result)
        if not json_:
            show(result)
    if json_:
        emit_json({"ok": not failed(results), "checks": results})
    else:
        _summarise(results)
    if failed(results):
        raise typer.Exit(1)


def show(result: Diagnosis) -> None:
    """Print a result, and its fix on a line of its own."""
    typer.secho(f"{result.outcome:<5}", nl=False, fg=_COLOURS[result.outcome])
    typer.echo(f" {result.name:<{_NAME_WIDTH}} {result.detail}")
    if result.fix:
        typer.echo(f"{'':<{_NAME_WIDTH + 7}}fix: {result.fix}")


def _azure_checks(purpose: Purpose, names: list[WantedName], today: date) -> Iterator[Diagnosis]:
    """Run the checks of Azure; missing settings or packages are results of the check, not mistakes in the command."""
    from vision_mlops.azure.preflight.preflight import Preflight
    from vision_mlops.config.azure_settings import AzureSettings

    try:
        yield from Preflight(AzureSettings.load(), purpose, today, names).run()
    except ConfigError as error:
        yield failure("azure settings", error.message, error.hint)
    except MissingExtraError as error:
        yield failure("azure packages", error.message, error.hint)


def _summarise(results: list[Diagnosis]) -> None:
    counts = {outcome: sum(result.outcome is outcome for result in results) for outcome in Outcome}
    typer.echo(f"{counts[Outcome.OK]} ok, {counts[Outcome.WARN]} warn, {counts[Outcome.FAIL]} fail")
