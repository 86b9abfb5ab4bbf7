"""Options that several commands have."""

from __future__ import annotations

import enum
from typing import Annotated

import typer

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


class RunLocation(enum.StrEnum):
    """Where a job runs, or data is."""

    LOCAL = "local"
    AZURE = "azure"
