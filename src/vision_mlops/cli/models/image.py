"""``mlops models image``: name the image that contains a model, and write what it is built from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vision_mlops.cli.models.version_output import Ref
from vision_mlops.cli.options import AzureDevOps, GitHub, JsonOption, filled
from vision_mlops.cli.output import emit, say
from vision_mlops.core.errors import ConfigError


def image(
    ref: Ref,
    context: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Write the build context to this folder, which must not exist."),
    ] = None,
    base: Annotated[
        str | None,
        typer.Option(
            callback=filled, help="Image of the scoring server.", show_default="MLOPS_AZURE_INFERENCING_IMAGE"
        ),
    ] = None,
    registry: Annotated[
        str | None,
        typer.Option(callback=filled, help="Registry of the image.", show_default="MLOPS_AZURE_CONTAINER_REGISTRY"),
    ] = None,
    azure_devops: AzureDevOps = False,
    github: GitHub = False,
    json_: JsonOption = False,
) -> None:
    """Print the name of the image that contains a version, which `mlops deploy` to aci and aks runs.

    The name contains the id of the bundle, so it identifies one model. With `--context`, a registry can build the image if
    this machine has no container engine: `make model-image`. A pipeline gets the output `image`.

    Example: `mlops models image textile:3 --context outputs/image`
    """
    from vision_mlops.config.variable_settings import read_setting
    from vision_mlops.devops.build_results import open_build
    from vision_mlops.endpoints.inferencing_image import NAME, REGISTRY_VARIABLE, baked_image, write_context
    from vision_mlops.registry import open_registry

    build = open_build(typer.echo, azure_devops=azure_devops, github=github)
    models = open_registry()
    version = models.get(ref)
    name = baked_image(registry or read_setting(REGISTRY_VARIABLE), version)
    if context is not None:
        server = base or read_setting("MLOPS_AZURE_INFERENCING_IMAGE")
        if not server:
            raise ConfigError(
                "the image of the scoring server is not given",
                f"give --base REGISTRY/{NAME}:TAG, or set MLOPS_AZURE_INFERENCING_IMAGE",
            )
        write_context(context, server, models.bundle_path(version), version)
        say(f"wrote the build context of {name} to {context}")
    emit({"image": name, "model": version.reference, "context": context}, name, as_json=json_)
    if build is not None:
        build.output("image", name)
