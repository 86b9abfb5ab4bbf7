"""The pipelines that come with the package: Azure ML v2 YAML, and the code of their parallel step."""

from __future__ import annotations

from pathlib import Path

PIPELINES = Path(__file__).parent
"""Folder of the shipped definitions."""


def present(definition: Path) -> Path:
    """Where a definition is now: one that came with an earlier version of the package may have moved since.

    Args:
        definition: Its path as it was taken down.

    Returns:
        The path itself where something is there, or where the package has no definition of that name.
    """
    moved = PIPELINES / definition.name
    if definition.exists() or PIPELINES.parents[1].name not in definition.parts or not moved.is_file():
        return definition
    return moved
