"""``mlops models transfer``: copy a version to another registry."""

from __future__ import annotations

from typing import Annotated

import typer

from vision_mlops.cli.models.version_output import Ref, public, suffix
from vision_mlops.cli.options import JsonOption
from vision_mlops.cli.output import emit
from vision_mlops.registry.version_digest import ANY


def transfer(
    ref: Ref,
    to: Annotated[
        str,
        typer.Option(
            help="Destination: `mlflow`, `azure`, `azureml://registries/NAME` or `azureml://workspaces/NAME`.",
            metavar="PLACE",
        ),
    ],
    from_: Annotated[
        str | None,
        typer.Option("--from", metavar="PLACE", help="Source registry.", show_default="that of this environment"),
    ] = None,
    name: Annotated[str | None, typer.Option("--name", "-n", help="Model name there.", show_default="the same")] = None,
    alias: Annotated[list[str] | None, typer.Option("--alias", "-a", help="Alias to set there. Repeatable.")] = None,
    digest: Annotated[
        str,
        typer.Option(help="Transfer the version with this digest, or `any`; with a name alone, look it up by digest."),
    ] = ANY,
    force: Annotated[bool, typer.Option("--force", help="Set the alias even if the verdict is reject.")] = False,
    json_: JsonOption = False,
) -> None:
    """Copy a version to another registry: the same bundle, with all that is known about it.

    Version numbers differ between registries, but the digest of a bundle does not: `mlops models verdict` shows it.

    Example: `mlops models transfer textile@champion --to azureml://registries/mlr-vision`
    """
    from vision_mlops.registry import open_registry
    from vision_mlops.registry.registry_transfer import transfer as run
    from vision_mlops.registry.version_digest import version_with

    source = open_registry(from_)
    reference = ref if digest == ANY else version_with(source, ref, digest).reference
    version = run(source, reference, open_registry(to), name=name, aliases=alias or (), force=force)
    emit(public(version), f"{version.reference}{suffix(version)} is in {to}", as_json=json_)
