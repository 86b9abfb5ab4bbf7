"""Makes a version of this machine's asset store from a definition file, with the files that the definition points to."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vision_mlops.core.errors import PipelineError
from vision_mlops.core.ignore_files import snapshot_files
from vision_mlops.data.asset_store import Asset, AssetStore
from vision_mlops.jobs.definitions.definition import ASSETS, COMPONENTS, Definition
from vision_mlops.jobs.definitions.findings import Findings
from vision_mlops.jobs.definitions.linter.linter import Linter
from vision_mlops.jobs.definitions.linter.sweep_checks import TRIALS
from vision_mlops.jobs.definitions.models.base_model import AssetDefinition as AssetModel
from vision_mlops.jobs.definitions.plan.nodes import DataInput
from vision_mlops.jobs.definitions.referenced_files import Files, project_root
from vision_mlops.jobs.local.inputs.input_sources import Sources

_KINDS = {"data": "data", "model": "models", "environment": "environments"}


def create_asset(path: Path, version: str | None = None) -> Asset:
    """Check a definition of data, a model, an environment or a component, and store it.

    Args:
        path: Azure ML v2 YAML.
        version: Instead of that of the file; the next whole number where neither says one.

    Raises:
        PipelineError: the definition has mistakes, what it points to is missing, or the version exists.
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
    files = sorted(set(_files(definition, linter.files)))
    return AssetStore().add(
        kind, model.name, number, definition.type, lambda folder: _store(definition, files, folder),
        description=description,
    )  # fmt: skip


def _texts(values: dict[str, Any] | None) -> dict[str, str]:
    """Tags or properties as Azure ML keeps them: text, also where the file has numbers."""
    return {key: "" if value is None else str(value) for key, value in (values or {}).items()}


def _files(definition: Definition, files: Files) -> Iterator[Path]:
    """Everything that a definition points to, itself included."""
    base = definition.file.parent
    yield definition.file.resolve()
    if definition.kind == "environment":
        yield from _of_environment(definition.model, base)
    yield from _of_run(definition.model, base)
    for name, step in getattr(definition.model, "jobs", {}).items():
        yield from _of_run(step, base)
        for key, among in (("component", COMPONENTS), ("trial", TRIALS)):
            value = getattr(step, key, None)
            inner = files.component(value, definition, ("jobs", name, key), among) if value else None
            if inner is not None:
                yield from _files(inner, files)


def _of_run(model: Any, base: Path) -> Iterator[Path]:
    """Code and environment of something that runs; those of a parallel step are in its task."""
    for source in (model, getattr(model, "task", None)):
        code, environment = getattr(source, "code", None), getattr(source, "environment", None)
        if code and (base / code).exists():
            yield (base / code).resolve()
        if environment is not None:
            yield from _of_environment(environment, base)
    for item in getattr(model, "additional_includes", None) or ():
        yield (base / item).resolve()


def _of_environment(environment: Any, base: Path) -> Iterator[Path]:
    if isinstance(environment, str):
        path = base / environment.removeprefix("file:")
        if environment.endswith((".yml", ".yaml")) and path.is_file():
            yield path.resolve()
        return
    conda, build = getattr(environment, "conda_file", None), getattr(environment, "build", None)
    if isinstance(conda, str):
        yield (base / conda).resolve()
    if build is not None:
        yield (base / build.path).resolve()


def _store(definition: Definition, files: list[Path], folder: Path) -> Path:
    """Copy files so that they lie to each other as before; returns where the definition is."""
    root = project_root(definition.file)
    common = Path(os.path.commonpath([str(path if path.is_dir() else path.parent) for path in files]))
    if not common.is_relative_to(root):
        raise PipelineError(f"{definition.file} points to files outside of {root}", "move them into the project")
    target = folder / "content"
    for path in files:
        place = target / path.relative_to(common)
        if path.is_file():
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, place)
            continue
        for name in snapshot_files(path):
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path / name, place / name)
    # Marks the top of the project that this copy is.
    (target / ".amlignore").touch()
    return target / definition.file.resolve().relative_to(common)
