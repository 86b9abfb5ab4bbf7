"""Where images come from: the bundled dataset, a folder of class folders, or one that is split or was downloaded already."""

from __future__ import annotations

import importlib.util
import os
from collections import Counter
from collections.abc import Iterator, Set
from dataclasses import dataclass
from pathlib import Path

from vision_mlops.config.workload import Workload
from vision_mlops.core.errors import DataError, MissingExtraError
from vision_mlops.data.fetch_record import fetched_folder, read_record
from vision_mlops.data.manifest import SplitName
from vision_mlops.images.decoding import IMAGE_SUFFIXES

_BUNDLED_PACKAGE = "conformal_clip_data"
_BUNDLED_FOLDER = "data/textile_images/simulated"
SPLIT_FOLDERS: dict[str, SplitName] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
_HINT = "give a folder with one sub-folder of images per class"


@dataclass(frozen=True, slots=True)
class SourceImage:
    """A file of the source: its class, and its split where the source is split already."""

    path: Path
    label: str
    split: SplitName | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """All image files of a source, sorted.

    ``loose`` are images outside the class folders; ``ignored`` counts the suffixes of files that are not images.
    """

    root: Path
    name: str
    images: list[SourceImage]
    loose: list[Path]
    ignored: dict[str, int]


def find_source(workload: Workload, images: Path | None) -> Source:
    """List the images of a workload, or of the folder ``images`` in their place.

    Raises:
        DataError: the folder is missing, is a file, has no class folders with images, or was not downloaded yet.
        MissingExtraError: the bundled dataset is not installed.
    """
    if images is None and workload.data.source == "bundled":
        root, name = bundled_folder(), f"package:{_BUNDLED_PACKAGE}/{_BUNDLED_FOLDER}"
    elif images is None and workload.data.source == "download":
        root = fetched_folder(workload)
        name = str(root)
    else:
        given = images or (Path(workload.data.path) if workload.data.path else None)
        if given is None:
            raise DataError(f"workload {workload.name} names no images", "set data.path, or give --images DIR")
        root = given.expanduser().resolve()
        name = str(given)
    return list_images(root, name)


def list_images(folder: Path, name: str = "") -> Source:
    """List a folder of class folders, or of train/val/test with class folders in each.

    Args:
        folder: Where the images are.
        name: What the manifest calls the source; the folder where nothing is given.

    Raises:
        DataError: the folder is missing, is a file, or has no class folders with images.
    """
    root = folder.expanduser().resolve()
    if not root.exists():
        raise DataError(f"{root} does not exist", _HINT)
    if not root.is_dir():
        raise DataError(f"{root} is a file, not a folder", _HINT)
    record = read_record(root)
    return _list(root, record.source if record is not None else name or str(folder))


def bundled_folder() -> Path:
    """Folder of the textile images inside the installed package."""
    spec = importlib.util.find_spec(_BUNDLED_PACKAGE)
    if spec is None or spec.origin is None:
        raise MissingExtraError("conformal-clip-data", "train")
    return Path(spec.origin).parent / _BUNDLED_FOLDER


def class_folders(root: Path) -> list[str]:
    """Names of all class folders of a source, also of the empty ones; of a split one, those of all its splits."""
    folders = _folders(root)
    names = {folder.name.lower() for folder in folders}
    if is_split(names):
        folders = [label for folder in folders for label in _folders(folder)]
    return sorted({folder.name for folder in folders})


def _list(root: Path, name: str) -> Source:
    folders = _folders(root)
    names = {folder.name.lower() for folder in folders}
    images: list[SourceImage] = []
    loose = _loose(root)
    ignored: Counter[str] = Counter()
    if is_split(names):
        other = [folder.name for folder in folders if folder.name.lower() not in SPLIT_FOLDERS]
        if other:
            raise DataError(f"{root}: {', '.join(other)} beside train/val/test", "keep only the split folders there")
        if "train" not in {SPLIT_FOLDERS[name] for name in names}:
            raise DataError(
                f"{root}: {', '.join(sorted(names))} without train", "add train, or rename the class folders"
            )
        for folder in folders:
            loose += _loose(folder)
            split = SPLIT_FOLDERS[folder.name.lower()]
            for label in _folders(folder):
                images += [SourceImage(path, label.name, split) for path in _images(label, ignored)]
    else:
        for label in folders:
            images += [SourceImage(path, label.name) for path in _images(label, ignored)]
    if not images:
        detail = "its images lie beside each other, without class folders" if loose else "it has no images"
        raise DataError(f"{root}: {detail}", _HINT)
    return Source(root, name, sorted(images, key=lambda image: str(image.path)), loose, dict(ignored))


def is_split(names: Set[str]) -> bool:
    """Whether folders with these names, in lower case, are those of a split and not classes called so."""
    splits = names & set(SPLIT_FOLDERS)
    return "train" in splits or bool(splits and splits == names)


def _folders(root: Path) -> list[Path]:
    return sorted(path for path in root.iterdir() if path.is_dir() and not _hidden(path.name))


def _loose(folder: Path) -> list[Path]:
    files = sorted(path for path in folder.iterdir() if path.is_file() and not _hidden(path.name))
    return [path for path in files if path.suffix.lower() in IMAGE_SUFFIXES]


def _hidden(name: str) -> bool:
    return name.startswith(".") or name in ("__MACOSX", "Thumbs.db", "desktop.ini")


def _images(folder: Path, ignored: Counter[str]) -> Iterator[Path]:
    """Image files below a class folder. Linked files count; linked folders do not, so that a loop cannot hang us."""
    for parent, names, files in os.walk(folder):
        names[:] = sorted(name for name in names if not _hidden(name))
        for name in sorted(files):
            if _hidden(name):
                continue
            if Path(name).suffix.lower() in IMAGE_SUFFIXES:
                yield Path(parent, name)
            else:
                ignored[Path(name).suffix.lower() or "(none)"] += 1
