"""A copy of the images that come with a package, as a folder of class folders: images to practise with."""

from __future__ import annotations

import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from vision_mlops.core.errors import DataError
from vision_mlops.core.files import atomic_folder, is_clutter
from vision_mlops.core.folder_walk import EntryKind, walk
from vision_mlops.data.sources import Source


@dataclass(frozen=True, slots=True)
class CopiedFolder:
    """A folder of class folders; ``reused`` if it was already there."""

    folder: Path
    counts: dict[str, int]
    reused: bool


def copy_images(source: Source, out: Path, per_class: int | None = None) -> CopiedFolder:
    """Copy images into class folders, all of them or none.

    Args:
        source: The images, sorted.
        out: Folder to create.
        per_class: Number of images of a class at most, the first by name; by default all.

    Raises:
        DataError: ``out`` is a file, or holds anything but these images.
    """
    counts: Counter[str] = Counter()
    chosen: dict[str, Path] = {}
    for image in source.images:
        if per_class is None or counts[image.label] < per_class:
            counts[image.label] += 1
            chosen[f"{image.label}/{image.path.name}"] = image.path
    if out.is_file():
        raise DataError(f"{out} is a file", "choose another --out")
    if out.exists() and (files := _files(out)):
        if files != {name: path.stat().st_size for name, path in chosen.items()}:
            raise DataError(f"{out} is not empty and contains files other than these images", "choose another --out")
        return CopiedFolder(out, dict(counts), True)
    with atomic_folder(out) as folder:
        for name, path in chosen.items():
            (folder / name).parent.mkdir(exist_ok=True)
            shutil.copyfile(path, folder / name)
    return CopiedFolder(out, dict(counts), False)


def _files(folder: Path) -> dict[str, int]:
    """Return the sizes of all files in a folder."""
    return {
        entry.name: Path(entry.path).stat().st_size
        for entry in walk(folder, is_clutter)
        if entry.kind is EntryKind.FILE
    }
