"""The pipelines that ship with the package: Azure ML v2 YAML, and the code of their parallel step."""

from __future__ import annotations

from pathlib import Path

PIPELINES = Path(__file__).parent
"""Folder of the shipped definitions."""


def present(definition: Path) -> Path:
    """Return the present path of a definition, which may have moved since an earlier version of the package.

    Args:
        definition: The recorded path.

    Returns:
        The same path if it exists, or if the package has no definition of that name.
    """
    moved = PIPELINES / definition.name
    if definition.exists() or PIPELINES.parents[1].name not in definition.parts or not moved.is_file():
        return definition
    return moved
