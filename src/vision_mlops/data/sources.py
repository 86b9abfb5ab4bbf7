"""Where images come from: the bundled dataset, a folder of class folders, or one that is split or was downloaded already."""

from __future__ import annotations

import importlib.util
import os
import shlex
from dataclasses import dataclass, replace
from pathlib import Path

from vision_mlops.config import list_workloads, load_workload
from vision_mlops.config.workload import Corruptions, Workload
from vision_mlops.core.errors import ConfigError, DataError, MissingExtraError
from vision_mlops.core.folder_walk import EntryKind
from vision_mlops.core.text import few, is_address
from vision_mlops.data.fetch_record import RECORD, download_folder, fetched_folder, read_record
from vision_mlops.data.image_files import UNREADABLE, LeftOut, claims_to_be_image, image_entries, summary
from vision_mlops.data.manifest import MANIFEST, STATE, SplitName, read_manifest
from vision_mlops.data.split_folders import SPLIT_FOLDERS, is_split

_BUNDLED_PACKAGE = "conformal_clip_data"
_BUNDLED_FOLDER = "data/textile_images/simulated"
RECORDS = frozenset({RECORD, MANIFEST, STATE})
"""Files that commands of ours leave at the root of a dataset."""
_HINT = "give a folder with one sub-folder of images per class"


@dataclass(frozen=True, slots=True)
class SourceImage:
    """A file of the source: its class, and its split if the source is split already."""

    path: Path
    label: str
    split: SplitName | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """All image files of a source, sorted.

    ``classes`` are the names of all class folders, also of those without images; ``loose`` are images outside of them;
    ``left_out`` is what else is there and not used. ``corrupt`` is applied to the images when they are prepared.
    """

    root: Path
    name: str
    images: list[SourceImage]
    classes: list[str]
    loose: list[Path]
    left_out: list[LeftOut]
    corrupt: Corruptions | None = None

    @property
    def empty(self) -> list[str]:
        """Classes whose folders have no images."""
        return sorted(set(self.classes) - {image.label for image in self.images})


def find_source(workload: Workload, images: Path | None) -> Source:
    """List the images of a workload, or of the folder ``images`` in their place.

    Raises:
        DataError: the folder is missing, is a file, has no class folders with images, or was not downloaded yet.
        MissingExtraError: the bundled dataset is not installed.
    """
    if images is None and workload.data.source == "bundled":
        source = list_images(bundled_folder(), f"package:{_BUNDLED_PACKAGE}/{_BUNDLED_FOLDER}")
        if workload.data.corrupt is not None:
            return replace(source, name=f"{source.name}, corrupted", corrupt=workload.data.corrupt)
        return source
    if images is None and workload.data.source == "download":
        root = fetched_folder(workload)
        name = str(root)
    else:
        given = images or (Path(workload.data.path) if workload.data.path else None)
        if given is None:
            raise DataError(f"workload {workload.name} does not name any images", "set data.path, or pass --images DIR")
        root = given.expanduser().resolve()
        name = str(given)
        if images is None and not os.path.lexists(root) and not is_address(name):
            raise missing_images(workload)
    return list_images(root, name)


def missing_images(workload: Workload) -> DataError:
    """Explain that the folder that a workload names is not on this machine, as in a fresh clone of its project."""
    place = shlex.quote(workload.data.path)
    return DataError(
        f"workload {workload.name}: its images are not on this machine: {workload.data.path} is not a folder",
        f"link your copy with `ln -s DIR {place}`, fetch registered images with `mlops data download"
        f" --from azureml:{workload.name}@latest --out {place}`, or give --images",
    )


def list_images(folder: Path, name: str = "") -> Source:
    """List a folder of class folders, or of train/val/test with class folders in each.

    Args:
        folder: Where the images are.
        name: What the manifest calls the source; by default the folder.

    Raises:
        DataError: the folder is missing, is a file, cannot be read, or has no class folders with images.
    """
    root = folder.expanduser().resolve()
    if not os.path.lexists(root):
        if is_address(str(folder)):
            raise DataError(
                f"{folder} is an address: only folders on this machine can be read",
                "download the images with `mlops data fetch` or `mlops data download`",
            )
        raise DataError(f"{root} does not exist", _HINT)
    if root.is_file():
        raise DataError(f"{root} is a file, not a folder", _HINT)
    record = read_record(root)
    return _list(root, record.source if record is not None else name or str(folder))


def workload_of(folder: Path) -> Workload | None:
    """Find the workload of a folder: the one that prepared it, or the only one whose images it holds."""
    if (folder / MANIFEST).is_file():
        names = [name for name in list_workloads() if name == read_manifest(folder).name]
        return load_workload(names[0]) if names else None
    found = []
    for name in list_workloads():
        try:
            workload = load_workload(name)
        except ConfigError:  # whoever uses that one is told
            continue
        place = (
            download_folder(workload) if workload.data.source == "download" else Path(workload.data.path).expanduser()
        )
        if (workload.data.path or workload.data.source == "download") and place.resolve() == folder:
            found.append(workload)
    return found[0] if len(found) == 1 else None


def bundled_folder() -> Path:
    """Return the folder of the textile images inside the installed package."""
    spec = importlib.util.find_spec(_BUNDLED_PACKAGE)
    if spec is None or spec.origin is None:
        raise MissingExtraError("conformal-clip-data", "train")
    return Path(spec.origin).parent / _BUNDLED_FOLDER


def _list(root: Path, name: str) -> Source:
    files: list[tuple[list[str], Path]] = []
    folders: list[list[str]] = []
    left_out: list[LeftOut] = []
    for found in image_entries(root):
        if isinstance(found, LeftOut):
            if not found.name:
                raise DataError(f"{root} {found.problem}", "check its permissions")
            if found.name not in RECORDS:
                left_out.append(found)
            if found.reason == UNREADABLE and not claims_to_be_image(found.name):  # it may be a class
                folders.append(found.name.split("/"))
        elif found.kind is EntryKind.FOLDER:
            folders.append(found.name.split("/"))
        else:
            files.append((found.name.split("/"), Path(found.path)))
    nested = {parts[0] for parts in folders if len(parts) > 1}
    tops = {parts[0]: parts[0] in nested for parts in folders if len(parts) == 1}
    depth = 2 if is_split(tops, str(root)) else 1
    images = [
        SourceImage(path, parts[depth - 1], SPLIT_FOLDERS[parts[0].lower()] if depth == 2 else None)
        for parts, path in files
        if len(parts) > depth
    ]
    loose = [path for parts, path in files if len(parts) <= depth]
    if not images:
        raise _no_images(root, loose, left_out, list(tops) if depth == 2 else [])
    classes = sorted({parts[depth - 1] for parts in folders if len(parts) == depth})
    return Source(root, name, sorted(images, key=lambda image: str(image.path)), classes, loose, left_out)


def _no_images(root: Path, loose: list[Path], left_out: list[LeftOut], splits: list[str]) -> DataError:
    if loose:
        hint = _HINT
        if splits:
            hint += f"; if {' and '.join(splits)} are classes, rename their folders, for example to {splits[0]}_class"
        return DataError(f"{root}: its images are not in class folders", hint)
    found = few(summary(left_out), "; ", most=1)
    return DataError(f"{root}: it has no images" + (f", but {found}" if found else ""), _HINT)
