"""Files of the repository that an installed package brings: the template of projects, pins, a Dockerfile.

The build of the wheel runs this before any other package is there, so it imports the standard library alone.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

TEMPLATE = "template"
QUESTIONS = "copier.yml"
REQUIREMENTS = "requirements"
_BAKED = "environments/docker/inferencing_image/baked.Dockerfile"
_INCLUDED = re.compile(r"\[%-? include '([^']+)'")
_LEFT_OUT = shutil.ignore_patterns("__pycache__", "*.pyc", ".ipynb_checkpoints", ".DS_Store")


def copy_shipped_files(root: Path, target: Path) -> None:
    """Copy all of them to a folder, at their places in the repository.

    Args:
        root: The repository.
        target: Folder to write; it must not exist.
    """
    copy_template(root, target)
    shutil.copytree(root / REQUIREMENTS, target / REQUIREMENTS)
    _copy(root, target, _BAKED)


def copy_template(root: Path, target: Path) -> None:
    """Copy the template: its links become files, and what it includes from the rest of the repository goes with it.

    Args:
        root: The repository, or what :func:`copy_shipped_files` made of it.
        target: Folder to write; it must not exist.
    """
    # Links within are followed: neither a wheel nor every file system has any.
    shutil.copytree(root / TEMPLATE, target / TEMPLATE, ignore=_LEFT_OUT)
    for name in (QUESTIONS, *sorted(set(_included(target / TEMPLATE)))):
        _copy(root, target, name)


def _included(template: Path) -> Iterator[str]:
    for path in template.rglob("*.jinja"):
        found = _INCLUDED.findall(path.read_text(encoding="utf-8"))
        yield from (name for name in found if not name.startswith(f"{TEMPLATE}/") and name != "FILE")


def _copy(root: Path, target: Path, name: str) -> None:
    (target / name).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(root / name, target / name)
