"""Makes working copies of code folders, without what ``.amlignore`` (else ``.gitignore``) excludes, as on Azure ML."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from vision_mlops.core.errors import PipelineError
from vision_mlops.core.files import remove_path
from vision_mlops.core.hashing import Fingerprints
from vision_mlops.core.ignore_files import snapshot_files
from vision_mlops.jobs.definitions.plan.nodes import Node
from vision_mlops.jobs.local.steps.default_artifacts import make_artifact_folders


def code_fingerprint(node: Node, fingerprints: Fingerprints) -> dict[str, str]:
    """Hash the code of a step and each of its additional includes, by role."""
    found = {}
    for role, path in (("code", node.code), *((item.name, item) for item in node.includes)):
        if path is None:
            continue
        _require(node, path)
        found[role] = fingerprints.of_files(path, snapshot_files(path)) if path.is_dir() else fingerprints.of(path)
    return found


def copy_code(node: Node, target: Path) -> None:
    """Create the working copy of a step, with the empty folders that Azure ML adds to its code.

    Raises:
        PipelineError: the code is no longer on this machine.
    """
    remove_path(target)
    target.mkdir(parents=True)
    if node.code is not None:
        _require(node, node.code)
        _copy(node.code, target if node.code.is_dir() else target / node.code.name)
    for include in node.includes:
        _copy(include, target / include.name)
    make_artifact_folders(target)


def check_code(node: Node) -> None:
    """Raise PipelineError if the code is not on this machine, or an include would replace a part of it."""
    taken: set[str] = set()
    for path in (node.code, *node.includes):
        if path is None:
            continue
        _require(node, path)
        files = snapshot_files(path) if path.is_dir() else [""]
        closed = next((path / name for name in files if not os.access(path / name, os.R_OK)), None)
        if closed is not None:
            raise PipelineError(f"step {node.step!r}: {closed} cannot be read", "check its permissions or exclude it")
        if path is node.code and path.is_dir():
            taken = {name.partition("/")[0] for name in files}
            continue
        if path.name in taken:
            message = f"step {node.step!r}: its code and an additional include both contain {path.name!r}"
            raise PipelineError(message, "rename one of them")
        taken.add(path.name)


def _copy(source: Path, target: Path) -> None:
    """Copy a file, or a folder without what its ignore file excludes."""
    for name in snapshot_files(source) if source.is_dir() else [""]:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source / name, target / name)


def _require(node: Node, path: Path) -> None:
    if not path.exists():
        raise PipelineError(f"step {node.step!r}: the code {path} is not on this machine", "use a local path")
