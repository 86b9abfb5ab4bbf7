"""Versions as the commands of ``mlops models`` print them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from vision_mlops.cli.options import filled
from vision_mlops.cli.output import emit_json

if TYPE_CHECKING:
    from vision_mlops.registry import ModelVersion

Ref = Annotated[
    str, typer.Argument(callback=filled, metavar="REF", help="`NAME` (latest), `NAME:3` or `NAME@champion`.")
]


def public(version: ModelVersion) -> dict[str, Any]:
    """A version for JSON; the stored facts are what `explain` prints."""
    content = version.to_dict()
    content["tags"] = {key: value for key, value in version.tags.items() if not key.startswith("mlops.")}
    return {"reference": version.reference, **content}


def emit_version(version: ModelVersion, *, as_json: bool, text: str) -> None:
    """Print a version as JSON, or what is said of it."""
    if as_json:
        emit_json(public(version))
    else:
        typer.echo(text)


def suffix(version: ModelVersion) -> str:
    """Aliases and verdict, in brackets; empty without any."""
    parts = [f"@{alias}" for alias in version.aliases] + ([f"verdict {version.verdict}"] if version.verdict else [])
    return f" ({', '.join(parts)})" if parts else ""
