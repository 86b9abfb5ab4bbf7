"""``mlops models transfer``: the same bundle in another registry."""

from __future__ import annotations

from typing import Annotated

import typer

from vision_mlops.cli.models.version_output import Ref, emit_version, suffix
from vision_mlops.cli.options import JsonOption
from vision_mlops.registry.version_digest import ANY


def transfer(
    ref: Ref,
    to: Annotated[
        str,
        typer.Option(
            "--to",
            help="`mlflow`, `azure`, `azureml://registries/NAME` or `azureml://workspaces/NAME`.",
            metavar="PLACE",
        ),
    ],
    from_: Annotated[
        str | None, typer.Option("--from", metavar="PLACE", help="Registry that has it; that of this environment.")
    ] = None,
    name: Annotated[str | None, typer.Option("--name", "-n", help="Another name there.")] = None,
    alias: Annotated[
        list[str] | None, typer.Option("--alias", "-a", help="Alias to give it there. Repeatable.")
    ] = None,
    digest: Annotated[
        str,
        typer.Option(
            "--digest", help="Digest that it must have, or `any`; with a name alone, the version that has it."
        ),
    ] = ANY,
    force: Annotated[bool, typer.Option("--force", help="Give the alias also where its verdict is reject.")] = False,
    json_: JsonOption = False,
) -> None:
    """Copy a version, the same bundle with all that is known about it, to another registry.

    Numbers of versions differ between registries, the digest of a bundle does not: `mlops models verdict` shows it.

    Example: `mlops models transfer textile@champion --to azureml://registries/mlr-vision`
    """
    from vision_mlops.registry import open_registry
    from vision_mlops.registry.registry_transfer import transfer as run
    from vision_mlops.registry.version_digest import version_with

    source = open_registry(from_)
    reference = ref if digest == ANY else version_with(source, ref, digest).reference
    version = run(source, reference, open_registry(to), name=name, aliases=alias or (), force=force)
    emit_version(version, as_json=json_, text=f"{version.reference}{suffix(version)} is in {to}")
