"""``mlops env``: the environments of a project in an Azure ML workspace."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated

import typer

from vision_mlops.cli.options import JsonOption
from vision_mlops.cli.output import emit_table

app = typer.Typer(no_args_is_help=True, help="Register the environments of a project on Azure ML.")


class EnvironmentOrigin(enum.StrEnum):
    """What an environment is made from."""

    CONDA = "conda"
    DOCKER = "docker"


@app.callback()
def _group() -> None:
    """Keep `register` a command of its own while it is the only one."""


@app.command()
def register(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="NAME", help="Environments: `dev`, `train`, `deploy`; all by default."),
    ] = None,
    origin: Annotated[
        EnvironmentOrigin | None,
        typer.Option(
            "--from",
            help="Make them from `environments/conda/NAME.yml`, or build them from `environments/docker`.",
            show_default="environments/NAME.yml where there is one, else the conda file",
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be created.")] = False,
    json_: JsonOption = False,
) -> None:
    """Create the environments of the project in the working folder; one whose content is there already is left as it is.

    The version is a hash of the content. `train` gets the name that jobs look for, MLOPS_AZURE_ENVIRONMENT; the others are
    `vision-mlops-NAME`.

    Example: `mlops env register train --from conda`
    """
    from vision_mlops.azure.clients import check_workspace, ml_client
    from vision_mlops.config.azure_settings import load_azure_settings
    from vision_mlops.jobs.azureml import environment_assets

    sources = environment_assets.chosen(Path.cwd(), names or [], origin.value if origin else None)
    settings = load_azure_settings()
    client = ml_client(settings)
    check_workspace(client, settings)
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
