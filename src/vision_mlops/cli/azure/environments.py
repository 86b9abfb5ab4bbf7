"""``mlops env``: the environments of a project in an Azure ML workspace."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from vision_mlops.cli.data.versions import workspace
from vision_mlops.cli.options import DryRunOption, JsonOption
from vision_mlops.cli.output import emit_table

app = typer.Typer(no_args_is_help=True)


@app.command()
def register(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="NAME", help="Environments to register: `dev`, `train`, `deploy`; all by default."),
    ] = None,
    origin: Annotated[
        Literal["conda", "docker"] | None,
        typer.Option(
            "--from",
            help="Create them from `environments/conda/NAME.yml`, or build them from `environments/docker`.",
            show_default="environments/NAME.yml if it exists, else the conda file",
        ),
    ] = None,
    dry_run: DryRunOption = False,
    json_: JsonOption = False,
) -> None:
    """Create the environments of the project in the working folder; those whose content exists already are unchanged.

    The version is a hash of the content. `train` gets the name that jobs look for, MLOPS_AZURE_ENVIRONMENT; the others are
    called `vision-mlops-NAME`.

    Example: `mlops env register train --from conda`
    """
    from vision_mlops.jobs.azureml import environment_assets

    sources = environment_assets.chosen(Path.cwd(), names or [], origin)
    client, settings = workspace()
    rows = []
    for name, source in sources.items():
        made = environment_assets.register(
            client, environment_assets.name_in_azure(name, settings), source, dry_run=dry_run
        )
        state = "unchanged" if not made.new else "would be created" if dry_run else "created"
        rows.append(
            {"environment": made.name, "version": made.version, "from": source.origin(Path.cwd()), "state": state}
        )
    emit_table(rows, as_json=json_)
