"""Plans where the images of archives go: folders of classes, below train, val and test if the split is published."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from vision_mlops.config.workload import Download
from vision_mlops.core.errors import DataError
from vision_mlops.data.fetch.archives import Names
from vision_mlops.data.fetch.published_splits import assign_splits
from vision_mlops.data.image_files import claims_to_be_image, is_documentation
from vision_mlops.data.manifest import UNSPLIT, SplitName
from vision_mlops.data.split_folders import SPLIT_FOLDERS, is_split
from vision_mlops.images.decoding import IMAGE_SUFFIXES


@dataclass(slots=True)
class Layout:
    """What becomes of the files of archives.

    Attributes:
        targets: Path in the new folder, by name in the archives.
        counts: Number of images by split (``all`` if there is none) and class.
        unlisted: Images that are not in a split list.
        loose: Images outside of the class folders.
        others: Files that are not images, in the folder of the class folders if that is given.
        empty: Class folders without images, sorted.
    """

    targets: dict[str, str] = field(default_factory=dict)
    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    unlisted: list[str] = field(default_factory=list)
    loose: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)

    def count(self, split: str, label: str) -> None:
        """Count an image."""
        classes = self.counts.setdefault(split, {})
        classes[label] = classes.get(label, 0) + 1


def lay_out(
    names: Iterable[str],
    download: Download,
    lists: Mapping[SplitName, list[str]] | None = None,
    is_image: Callable[[str], bool] = claims_to_be_image,
    folders: Iterable[str] = (),
) -> Layout:
    """Plan where each image goes.

    Args:
        names: Names of all files in the archives; they are harmless, and no two are equal.
        download: Says where the class folders are, and how folders name classes.
        lists: Paths below the class folders' parent by split, if a split is published.
        is_image: Returns whether a file is an image; by default, its suffix decides.
        folders: Folders that the archives list themselves, also empty ones.

    Raises:
        DataError: there are no class folders with images, a folder gives no class name, two give the same, or the lists
            do not fit.
    """
    layout, names = Layout(), list(names)
    images = [name for name in names if is_image(name)]
    root = _root(images) if download.images is None else download.images
    prefix = f"{root}/" if root else ""
    # If the folder is given, lists and annotations next to it are left out on purpose.
    given = prefix if download.images is not None else ""
    layout.others = [
        name for name in names if name.startswith(given) and not is_image(name) and not is_documentation(name)
    ]
    below = [name.removeprefix(prefix) for name in images if name.startswith(prefix)]
    layout.loose = [name for name in images if not name.startswith(prefix)]
    layout.loose += [prefix + name for name in below if "/" not in name]
    below = [name for name in below if "/" in name]
    if not below:
        raise _no_images(names, images, root)
    splits = None
    if lists is not None:
        given_lists = {split: [path.removeprefix(prefix) for path in paths] for split, paths in lists.items()}
        splits = assign_splits(given_lists, below)
        layout.unlisted = [prefix + name for name in below if name not in splits]
    split_folders = splits is None and _is_split(below, prefix)
    known = {*folders, *(name.rpartition("/")[0] for name in names)}
    layout.empty = _without_images(
        [name.removeprefix(prefix) for name in known if name.startswith(prefix)], below, split_folders
    )
    _place(layout, below, prefix, splits, split_folders, download.label_pattern)
    return layout


def _without_images(folders: Iterable[str], images: Iterable[str], split_folders: bool) -> list[str]:
    """Return the names of class folders that have no images in any split."""

    def named(paths: Iterable[list[str]]) -> set[str]:
        if split_folders:
            return {parts[1] for parts in paths if parts[0].lower() in SPLIT_FOLDERS and len(parts) > 1}
        return {parts[0] for parts in paths if parts[0]}

    return sorted(named(name.split("/") for name in folders) - named(name.split("/")[:-1] for name in images))


def _no_images(names: list[str], images: list[str], root: str) -> DataError:
    message = "the archive has no images in class folders" + (f" below {root!r}" if root else "")
    if not images:
        kinds = Counter(PurePosixPath(name).suffix.lower() or "(none)" for name in names)
        found = ", ".join(f"{count} {suffix}" for suffix, count in kinds.most_common(5)) or "nothing"
        return DataError(f"{message}: it has {found}", f"supported are {', '.join(sorted(IMAGE_SUFFIXES))}")
    folders = sorted({name.rpartition("/")[0] or "." for name in images})
    return DataError(
        message, f"--inside or data.download.images says where they are; images are in {', '.join(folders[:5])}"
    )


def _root(images: list[str]) -> str:
    """Find the innermost folder that contains all images, but not a class folder itself if there is only one."""
    parents = {name.rpartition("/")[0] for name in images}
    common = os.path.commonpath(parents) if parents else ""
    inside = {parent.removeprefix(common).strip("/").partition("/")[0] for parent in parents - {common}}
    return common.rpartition("/")[0] if common in parents and len(inside) < 2 else common


def _place(
    layout: Layout,
    below: list[str],
    prefix: str,
    splits: Mapping[str, SplitName] | None,
    split_folders: bool,
    pattern: str,
) -> None:
    """Fill in targets and counts."""
    taken, folders = Names(), dict[str, str]()
    for name in below:
        parts = name.split("/")
        if splits is not None:
            if name not in splits:
                continue
            where: str = splits[name]
        elif split_folders:
            if len(parts) < 3:
                layout.loose.append(prefix + name)
                continue
            where, parts = SPLIT_FOLDERS[parts[0].lower()], parts[1:]
        else:
            where = UNSPLIT
        label = _label(parts[0], pattern, folders)
        target = "/".join([*([] if where == UNSPLIT else [where]), label, *parts[1:]])
        taken.add("the archive", target)
        layout.targets[prefix + name] = target
        layout.count(where, label)


def _is_split(below: list[str], prefix: str) -> bool:
    """Return whether the folders of the images are those of a split."""
    folders: dict[str, bool] = {}
    for name in below:
        top, *rest = name.split("/")
        folders[top] = folders.get(top, False) or len(rest) > 1
    try:
        return is_split(folders, f"folder {prefix.rstrip('/')!r} of the archive" if prefix else "the archive")
    except DataError as error:
        raise DataError(
            error.message,
            "--inside or data.download.images names the folder of the class folders; or repack the archive",
        ) from error


def _label(folder: str, pattern: str, folders: dict[str, str]) -> str:
    """Return the class that a folder names; ``folders`` are those of other classes by the name of the class."""
    match = re.fullmatch(pattern, folder)
    label = (match[1] or "").strip() if match else ""
    if not is_folder_name(label):
        raise DataError(
            f"folder {folder!r} gives no class name with the pattern {pattern!r}",
            "fix data.download.label_pattern, or set data.download.images to the folder of the class folders",
        )
    other = folders.setdefault(label.casefold(), folder)
    if other != folder:
        message = f"folders {other!r} and {folder!r} give the same class {label!r}"
        raise DataError(message, "fix data.download.label_pattern")
    return label


def is_folder_name(label: str) -> bool:
    """Return whether a class may have this name: that of one visible folder."""
    odd = any(sign in "/\\" or not sign.isprintable() for sign in label)
    return bool(label) and not odd and label == label.strip() and label[0] != "." and len(label.encode()) <= 200
