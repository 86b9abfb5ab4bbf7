"""Checks of Azure that run before a command creates anything that costs money."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import TYPE_CHECKING, Annotated

import typer

from vision_mlops.cli.output import warn
from vision_mlops.core.errors import AzureError
from vision_mlops.doctor.check_results import Diagnosis, Outcome, failed

if TYPE_CHECKING:
    from vision_mlops.azure.preflight.purposes import Demand
    from vision_mlops.config.azure_settings import AzureSettings

SKIP = "MLOPS_SKIP_CHECKS"
SkipChecks = Annotated[
    bool,
    typer.Option(
        "--skip-checks", envvar=SKIP, help="Skip the checks of roles, quota and the like before Azure is used."
    ),
]


def check_first(
    purpose: str, *, skip: bool = False, settings: AzureSettings | None = None, demands: Sequence[Demand] = ()
) -> None:
    """Run the checks for a purpose, unless they passed within the last minutes, and show warnings.

    Args:
        purpose: As ``mlops doctor --for`` names it.
        skip: Do nothing.
        settings: Settings of Azure; read from the environment by default.
        demands: Machines that are needed, if they are not those of the settings.

    Raises:
        AzureError: a check failed; the message has the details and fixes of all that failed.
        ConfigError, MissingExtraError: settings are missing, or the Azure packages are not installed.
    """
    if skip:
        return
    from vision_mlops.azure.preflight import passed_checks
    from vision_mlops.azure.preflight.caller import UNSEEN
    from vision_mlops.azure.preflight.preflight import Preflight
    from vision_mlops.azure.preflight.purposes import purpose_of
    from vision_mlops.config.azure_settings import AzureSettings

    place = settings or AzureSettings.load()
    wanted = purpose_of(purpose)
    if demands:
        wanted = wanted.with_demands(*demands)
    if passed_checks.is_fresh(place, wanted):
        return
    results = list(Preflight(place, wanted, date.today()).run())
    for result in results:
        if result.outcome is Outcome.WARN and not result.detail.endswith(UNSEEN):
            warn(f"{result.name}: {result.detail}\n  -> {result.fix}")
    if wrong := failed(results):
        raise _refusal(wrong)
    passed_checks.remember(place, wanted)


def _refusal(wrong: list[Diagnosis]) -> AzureError:
    """Make one error of everything that failed."""
    first, *others = wrong
    lines = [
        f"{first.name}: {first.detail}; nothing was created",
        *(f"  {item.name}: {item.detail}" for item in others),
    ]
    fixes = dict.fromkeys(item.fix for item in wrong if item.name != "not checked")
    return AzureError("\n".join(lines), "\n  -> ".join(fixes))
