"""``mlops assets``: register what ``azureml:NAME:VERSION`` means to jobs on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vision_mlops.cli.options import JsonOption
from vision_mlops.cli.output import emit, emit_table

app = typer.Typer(no_args_is_help=True)


@app.command()
def create(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Azure ML v2 YAML of an asset or component.")],
    version: Annotated[str | None, typer.Option(help="Override the version of the file.")] = None,
    json_: JsonOption = False,
) -> None:
    """Store a version of an asset with the files that it points to. A version never changes.

    Example: `mlops assets create src/vision_mlops/jobs/pipelines/components/train.yml`
    """
    from vision_mlops.jobs.local.inputs.asset_creation import create_asset

    asset = create_asset(file, version)
    content = {"reference": asset.reference, "kind": asset.kind, "type": asset.type, "path": asset.path}
    emit(content, asset.reference, as_json=json_)


@app.command("list")
def list_(json_: JsonOption = False) -> None:
    """List all assets on this machine.

    Example: `mlops assets list`
    """
    from vision_mlops.data.asset_store import KINDS, AssetStore

    store = AssetStore()
    rows = [
        {"kind": kind, "reference": asset.reference, "type": asset.type, "created": asset.created, "path": asset.path}
        for kind in KINDS
        for asset in store.all(kind)
    ]
    emit_table(rows, as_json=json_, empty="no assets yet: mlops assets create FILE")
