"""Creates a version in this machine's asset store from a definition file, with the files that the definition refers to."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from vision_mlops.core.errors import PipelineError
from vision_mlops.core.ignore_files import snapshot_files
from vision_mlops.data.asset_store import Asset, AssetStore
from vision_mlops.jobs.definitions.definition import ASSETS, COMPONENTS, Definition
from vision_mlops.jobs.definitions.findings import Findings
from vision_mlops.jobs.definitions.linter.linter import Linter
from vision_mlops.jobs.definitions.models.base_model import AssetDefinition as AssetModel
from vision_mlops.jobs.definitions.plan.nodes import DataInput
from vision_mlops.jobs.definitions.referenced_files import project_root
from vision_mlops.jobs.local.inputs.input_sources import Sources

_KINDS = {"data": "data", "model": "models", "environment": "environments"}


def create_asset(path: Path, version: str | None = None) -> Asset:
    """Check a definition of data, a model, an environment or a component, and store it.

    Args:
        path: Azure ML v2 YAML.
        version: Used instead of that of the file; the next whole number if neither is given.

    Raises:
        PipelineError: the definition has mistakes, a file that it refers to is missing, or the version exists.
    """
    linter = Linter(path, Findings())
    definition = linter.checked((*ASSETS, *COMPONENTS))
    model: Any = definition.model
    if not model.name:
        raise PipelineError(f"{path} has no name", "add `name: ...`")
    number = version or model.version
    description = model.description or ""
    if isinstance(model, AssetModel):
        type_ = model.type or ("uri_folder" if definition.kind == "data" else "custom_model")
        data = DataInput(model.path, type_, None, definition.file.parent)
        content = Sources().find(data, f"{path}: path")
        return AssetStore().add(
            _KINDS[definition.kind], model.name, number, type_, content, description=description,
            tags=_texts(model.tags), properties=_texts(model.properties),
        )  # fmt: skip
    kind = _KINDS.get(definition.kind, "components")
    files = sorted({definition.file.resolve(), *linter.files.used})
    return AssetStore().add(
        kind, model.name, number, definition.type, lambda folder: _store(definition, files, folder),
        description=description,
    )  # fmt: skip


def _texts(values: dict[str, Any] | None) -> dict[str, str]:
    """Convert tags or properties to what Azure ML keeps: text, even where the file has numbers."""
    return {key: "" if value is None else str(value) for key, value in (values or {}).items()}


def _store(definition: Definition, files: list[Path], folder: Path) -> Path:
    """Copy files, keeping their places relative to each other; return the path of the definition."""
    root = project_root(definition.file)
    common = Path(os.path.commonpath([str(path if path.is_dir() else path.parent) for path in files]))
    if not common.is_relative_to(root):
        raise PipelineError(f"{definition.file} refers to files outside of {root}", "move them into the project")
    target = folder / "content"
    for path in files:
        place = target / path.relative_to(common)
        for name in snapshot_files(path) if path.is_dir() else [""]:
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path / name, place / name)
    # Marks the copy as a project of its own.
    (target / ".amlignore").touch()
    return target / definition.file.resolve().relative_to(common)
