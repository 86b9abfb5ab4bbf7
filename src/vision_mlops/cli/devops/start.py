"""``mlops devops start``: start a pipeline from a step of another one or from a terminal."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from vision_mlops.cli.options import JsonOption, filled, pairs
from vision_mlops.cli.output import emit
from vision_mlops.core.errors import ConfigError


def start(
    pipeline: Annotated[
        str, typer.Argument(callback=filled, metavar="PIPELINE", help="Name or number of the pipeline.")
    ],
    parameters: Annotated[
        list[str] | None,
        typer.Option("--parameter", "-p", metavar="NAME=VALUE", help="Set a parameter of the pipeline. Repeatable."),
    ] = None,
    organization: Annotated[
        str,
        typer.Option(metavar="URL", help="Address of the organization.", show_default="SYSTEM_COLLECTIONURI"),
    ] = "",
    project: Annotated[str, typer.Option(help="Project in the organization.", show_default="SYSTEM_TEAMPROJECT")] = "",
    json_: JsonOption = False,
) -> None:
    """Start a pipeline of Azure DevOps on its default branch, and do not wait for it.

    In a pipeline it signs in with SYSTEM_ACCESSTOKEN, which needs the permission to queue builds of the other pipeline;
    elsewhere with the identity that is signed in to Azure.

    Example: `mlops devops start model_deployment --parameter model=textile:3`
    """
    from vision_mlops.azure.devops_sign_in import service_token
    from vision_mlops.devops.run_start import named_pipeline, start_run

    values = pairs(parameters, "--parameter", "model=textile:3")
    collection = organization or os.environ.get("SYSTEM_COLLECTIONURI", "").strip()
    chosen = project or os.environ.get("SYSTEM_TEAMPROJECT", "").strip()
    if not collection or not chosen:
        raise ConfigError(
            "the organization or the project is not given",
            "give --organization https://dev.azure.com/NAME --project NAME; a pipeline has them in its environment",
        )
    token = service_token("Azure DevOps")
    address = named_pipeline(f"{collection.rstrip('/')}/{chosen}", pipeline, token)
    started = start_run(address, values, token)
    content = {"pipeline": pipeline, "started": started, "parameters": values}
    emit(content, f"{pipeline}: started {started}", as_json=json_)
