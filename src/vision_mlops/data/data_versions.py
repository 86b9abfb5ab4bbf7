"""Versions of data in the asset store of this machine."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from vision_mlops.core.errors import DataError
from vision_mlops.core.hashing import file_hash
from vision_mlops.core.text import nearest
from vision_mlops.data.asset_store import Asset, AssetStore, newest
from vision_mlops.data.folder_contents import Content, Progress, compare, data_files

FILES = "files.json"
"""Beside the content of a version: the hash of each of its files."""

_KIND = "data"
_CONTENT = "content"
_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9_-]+")


def name_of(content: Content, otherwise: str = "") -> str:
    """Derive the asset name of a file or folder: that of the workload for prepared data, else its own.

    Args:
        content: The file or folder.
        otherwise: Name to use if no part of its own name is valid.

    Raises:
        DataError: no part of its own name is valid, and ``otherwise`` is empty.
    """
    if content.manifest is not None:
        return content.manifest.name
    title = content.path.name if content.path.is_dir() else content.path.stem
    name = _NOT_IN_A_NAME.sub("-", title).strip("-_") or otherwise
    if not name:
        raise DataError(f"no asset name can be derived from {title!r}", "set one with --name")
    return name


def find(reference: str) -> Asset:
    """Find a version in this machine's store, from ``NAME[:VERSION]`` or ``NAME@latest``. Raises PipelineError."""
    return AssetStore().find(_KIND, reference)


def versions(name: str) -> list[Asset]:
    """List all versions of a name in this machine's store, lowest first."""
    return AssetStore().versions(_KIND, name)


def suggestion(name: str) -> str:
    """Return a hint for a data asset that this machine does not have: the nearest name, and all that exist."""
    return nearest(name, AssetStore().names(_KIND), "register one with `mlops data register FOLDER --name NAME`")


def list_newest() -> list[Asset]:
    """List the newest version of each data asset on this machine."""
    return [newest(versions(name)) for name in AssetStore().names(_KIND)]


def reference_of(fingerprint: str) -> str:
    """Return the reference of the newest version with a fingerprint; empty if this machine has none."""
    assets = AssetStore().all(_KIND) if fingerprint else []
    found = [asset for asset in assets if asset.fingerprint == fingerprint]
    return newest(found).reference if found else ""


def register(
    content: Content,
    name: str,
    *,
    description: str = "",
    tags: Mapping[str, str] | None = None,
    progress: Progress | None = None,
) -> tuple[Asset, bool]:
    """Copy content into this machine's store, unless a version of this name already holds the same.

    Args:
        content: A folder, as :func:`~vision_mlops.data.folder_contents.describe` found it.
        name: Name of the asset.
        description: Description for people.
        tags: Tags for people.
        progress: Called with (copied, total) files now and then.

    Returns:
        The version, and whether it is new.

    Raises:
        PipelineError: the name is malformed, or another process holds it for minutes.
        DataError: the folder was changed in the meantime; nothing is registered then.
    """
    made = False

    def write(folder: Path) -> Path:
        nonlocal made
        made = True
        target = folder / _CONTENT
        _copy(content, target, progress)
        (folder / FILES).write_text(json.dumps(content.files, indent=0, ensure_ascii=False) + "\n", encoding="utf-8")
        return target

    asset = AssetStore().add(
        _KIND, name, None, "uri_folder", write, description=description, tags=tags,
        properties=content.properties(shared=False),
        same=lambda known: known.fingerprint == content.fingerprint,
    )  # fmt: skip
    return asset, made


def verify(version: Asset) -> dict[str, list[str]]:
    """Hash the files of a version of this machine again.

    Returns:
        Names of files that are ``changed``, ``missing`` or ``added``; empty if the version is as it was registered.

    Raises:
        DataError: it has no record of what it held.
    """
    content = version.content
    try:
        files = json.loads((content.parent / FILES).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        hint = "only what `mlops data register` has stored can be verified"
        raise DataError(f"{version.reference} has no list of its files ({FILES})", hint) from error
    there = {name: file_hash(content / name) for name in data_files(content)} if content.is_dir() else {}
    return compare(files, there)


def _copy(content: Content, target: Path, progress: Progress | None) -> None:
    """Copy files and check the copies, since the folder may change at any moment. They become read-only."""
    made: set[Path] = set()
    for number, (name, digest) in enumerate(content.files.items(), start=1):
        file = target / name
        if file.parent not in made:
            file.parent.mkdir(parents=True, exist_ok=True)
            made.add(file.parent)
        try:
            # No hard link: an edit of the original would change the version.
            shutil.copyfile(content.file(name), file)
        except FileNotFoundError as error:
            raise _changed(content, name) from error
        if file_hash(file) != digest:
            raise _changed(content, name)
        file.chmod(file.stat().st_mode & ~0o222)
        if progress is not None and (number % 50 == 0 or number == len(content.files)):
            progress(number, len(content.files))


def _changed(content: Content, name: str) -> DataError:
    return DataError(
        f"{content.path}: {name} was changed while it was being registered",
        "try again when nothing writes to the folder",
    )
