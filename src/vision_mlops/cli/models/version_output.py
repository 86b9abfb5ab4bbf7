"""How the commands of ``mlops models`` take and print versions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from vision_mlops.cli.options import filled

if TYPE_CHECKING:
    from vision_mlops.registry import ModelVersion

REF_HELP = "Registered version: `NAME` (latest), `NAME:3` or `NAME@champion`."
Ref = Annotated[str, typer.Argument(callback=filled, metavar="REF", help=REF_HELP)]


def public(version: ModelVersion) -> dict[str, Any]:
    """Return a version for JSON, without the stored facts, which `explain` prints."""
    content = version.to_dict()
    content["tags"] = {key: value for key, value in version.tags.items() if not key.startswith("mlops.")}
    return {"reference": version.reference, **content}


def suffix(version: ModelVersion) -> str:
    """Return aliases and verdict in parentheses; empty without any."""
    parts = [f"@{alias}" for alias in version.aliases] + ([f"verdict {version.verdict}"] if version.verdict else [])
    return f" ({', '.join(parts)})" if parts else ""
