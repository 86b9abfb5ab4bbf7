"""Working copies of code folders: what ``.amlignore`` (else ``.gitignore``) leaves out stays out, as on Azure ML."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pathspec

from vision_mlops.exceptions import PipelineError
from vision_mlops.pipeline.nodes import Node
from vision_mlops.runner.fingerprints import Fingerprints

_IGNORE_FILES = (".amlignore", ".gitignore")
_NEVER = {".git", "__pycache__"}


def snapshot_files(folder: Path) -> list[str]:
    """Relative names of the files of a code folder that are sent along, sorted."""
    spec = _ignored(folder)
    found = []
    for root, folders, names in os.walk(folder):
        below = Path(root).relative_to(folder)
        folders[:] = sorted(
            name for name in folders if name not in _NEVER and not spec.match_file(f"{(below / name).as_posix()}/")
        )
        found += [name for name in ((below / item).as_posix() for item in names) if not spec.match_file(name)]
    return sorted(found)


def _ignored(folder: Path) -> pathspec.GitIgnoreSpec:
    for name in _IGNORE_FILES:
        if (folder / name).is_file():
            return pathspec.GitIgnoreSpec.from_lines((folder / name).read_text(encoding="utf-8").splitlines())
    return pathspec.GitIgnoreSpec.from_lines([])


def code_fingerprint(node: Node, fingerprints: Fingerprints) -> dict[str, str]:
    """Hash of the code of a step and of each of its additional includes, by role."""
    found = {}
    for role, path in (("code", node.code), *((item.name, item) for item in node.includes)):
        if path is None:
            continue
        _require(node, path)
        found[role] = fingerprints.of_files(path, snapshot_files(path)) if path.is_dir() else fingerprints.of(path)
    return found


def copy_code(node: Node, target: Path) -> None:
    """Make the working copy of a step: an empty folder where it has no code.

    Raises:
        PipelineError: the code is not on this machine, or an include would replace a part of it.
    """
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    if node.code is not None:
        _require(node, node.code)
        _copy(node.code, target if node.code.is_dir() else target / node.code.name)
    for include in node.includes:
        _require(node, include)
        if (target / include.name).exists():
            raise PipelineError(f"step {node.step!r}: its code already has {include.name!r}", "rename the include")
        _copy(include, target / include.name)


def _copy(source: Path, target: Path) -> None:
    if source.is_file():
        shutil.copy2(source, target)
        return
    made: set[Path] = set()
    for name in snapshot_files(source):
        destination = target / name
        if destination.parent not in made:
            destination.parent.mkdir(parents=True, exist_ok=True)
            made.add(destination.parent)
        if (source / name).is_file():  # not a broken link
            shutil.copy2(source / name, destination)


def _require(node: Node, path: Path) -> None:
    if not path.exists():
        raise PipelineError(f"step {node.step!r}: the code {path} is not on this machine", "use a local path")
