"""Options that several commands have."""

from __future__ import annotations

import enum
from typing import Annotated

import typer

from vision_mlops.core.errors import MlopsError

DEFAULT_WORKLOAD = "textile"
WorkloadOption = Annotated[str, typer.Option("--workload", "-w", help="Name of a workload, or path of a YAML file.")]
ChosenWorkloadOption = Annotated[
    str | None,
    typer.Option(
        "--workload",
        "-w",
        help="Name of a workload, or path of a YAML file.",
        show_default=f"that of the images or data, else {DEFAULT_WORKLOAD}",
    ),
]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", help="Override a key of the workload: `training.epochs=2`. Repeatable.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]

AzureDevOps = Annotated[
    bool,
    typer.Option("--azure-devops", help="Tell Azure DevOps, too: as output variables of the step, and in the run."),
]
GitHub = Annotated[bool, typer.Option("--github", help="Tell GitHub, too: as outputs of the step, and in its summary.")]


class RunLocation(enum.StrEnum):
    """Where a job runs, or data is."""

    LOCAL = "local"
    AZURE = "azure"


class FailOnSeverity(enum.StrEnum):
    """Severities that end the command with exit code 1."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"
    NEVER = "never"


def filled(parameter: typer.CallbackParam, value: str | None) -> str | None:
    """Callback of an argument or option: what is given must not be empty, as an unset variable of a shell makes it.

    Raises:
        MlopsError: it is.
    """
    if value is not None and not value.strip():
        name = parameter.opts[0] if parameter.param_type_name == "option" else parameter.metavar or parameter.name
        raise MlopsError(f"{name} is empty", "give a value; a variable of the shell may not be set")
    return value


def pairs(items: list[str] | tuple[str, ...], option: str, example: str) -> dict[str, str]:
    """``NAME=VALUE`` texts by name. Raises MlopsError where one has another form, or a name comes twice."""
    found: dict[str, str] = {}
    for item in items:
        name, equals, value = item.partition("=")
        if not equals or not name.strip():
            raise MlopsError(f"{option} {item!r} is not of the form NAME=VALUE", f"for example {option} {example}")
        if name.strip() in found:
            raise MlopsError(f"{option} {name.strip()!r} is given twice", "give it once")
        found[name.strip()] = value
    return found
