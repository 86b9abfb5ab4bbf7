"""Options that several commands have, each declared once, and checks of what is given.

A declaration names the option only where Typer would not derive the name from that of the parameter: a flag without its
``--no-`` form, a short form, or an option that several commands share.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import Annotated, Literal

import typer

from vision_mlops.core.errors import MlopsError

DEFAULT_WORKLOAD = "textile"


class RunLocation(enum.StrEnum):
    """Where a job runs, or where data is."""

    LOCAL = "local"
    AZURE = "azure"


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
ImagesOption = Annotated[
    str | None,
    typer.Option(
        "--images", help="Use this folder of class folders, or registered data such as `azureml:NAME:VERSION`."
    ),
]
ModelOption = Annotated[
    str, typer.Option("--model", "-m", help="Registered version: `NAME` (latest), `NAME:3` or `NAME@champion`.")
]
OnOption = Annotated[RunLocation, typer.Option("--on", help="Use this machine or the Azure ML workspace.")]
InputOption = Annotated[
    list[str] | None,
    typer.Option("--input", "-i", metavar="NAME=VALUE", help="Set an input of the pipeline: `nodes=2`. Repeatable."),
]
PrecisionOption = Annotated[
    Literal["auto", "f32"],
    typer.Option(
        "--precision", help="Use the processor's fastest precision (auto), or the same on all machines (f32)."
    ),
]
SeverityOption = Annotated[
    Literal["error", "warning", "note", "never"],
    typer.Option("--fail-on", help="Exit with code 1 at this severity or above."),
]
WorkersOption = Annotated[
    int | None,
    typer.Option("--workers", min=1, max=64, help="Number of worker processes.", show_default="one per core"),
]
OnRegisteredOption = Annotated[
    str | None,
    typer.Option(
        "--on-registered",
        metavar="URL",
        help="Start this pipeline of Azure DevOps, or the workflows of this GitHub repository, after registration.",
    ),
]
TokenSecretOption = Annotated[
    str | None,
    typer.Option("--token-secret", metavar="URL", help="Secret of a key vault with the token for --on-registered."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Show what would be done, and change nothing.")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")]
AzureDevOps = Annotated[
    bool,
    typer.Option("--azure-devops", help="Pass the results to Azure DevOps as output variables, and show them there."),
]
GitHub = Annotated[
    bool, typer.Option("--github", help="Pass the results to GitHub as outputs of the step, and to its summary.")
]


def filled(parameter: typer.CallbackParam, value: str | None) -> str | None:
    """Refuse an argument or option that is given but empty, as an unset variable of a shell makes it.

    Raises:
        MlopsError: the value is empty.
    """
    if value is not None and not value.strip():
        name = parameter.opts[0] if parameter.param_type_name == "option" else parameter.metavar or parameter.name
        raise MlopsError(f"{name} is empty", "give a value; a variable of the shell may not be set")
    return value


def pairs(items: Iterable[str] | None, option: str, example: str) -> dict[str, str]:
    """Read ``NAME=VALUE`` texts. Raises MlopsError where one has another form, or a name is given twice."""
    found: dict[str, str] = {}
    for item in items or ():
        name, equals, value = item.partition("=")
        if not equals or not name.strip():
            raise MlopsError(f"{option} {item!r} is not of the form NAME=VALUE", f"for example {option} {example}")
        if name.strip() in found:
            raise MlopsError(f"{option} {name.strip()!r} is given twice", "give it once")
        found[name.strip()] = value
    return found
