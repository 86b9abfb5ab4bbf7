"""Files that other programs leave beside data. They are no part of it: they are not hashed, uploaded or downloaded."""

from __future__ import annotations

NOISE = frozenset({".DS_Store", "Thumbs.db", "desktop.ini", ".ipynb_checkpoints", ".mlops-download"})
"""Names of files and folders that file browsers, notebooks and interrupted downloads leave."""


def is_noise(name: str) -> bool:
    """Whether a part of a relative name is :data:`NOISE`."""
    return not NOISE.isdisjoint(name.split("/"))
