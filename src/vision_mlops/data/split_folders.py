"""Whether folders called train, val and test are a split, or classes with these names."""

from __future__ import annotations

from collections.abc import Mapping

from vision_mlops.core.errors import DataError
from vision_mlops.core.text import few
from vision_mlops.data.manifest import SplitName

SPLIT_FOLDERS: dict[str, SplitName] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
"""Splits by the names of their folders, in lower case."""


def is_split(folders: Mapping[str, bool], where: str) -> bool:
    """Return whether the folders of a dataset are those of a split and not its classes.

    Folders with the names of a split are one if they contain class folders, or if there are no other folders. Those that
    contain images themselves, next to others that do, are classes; train with test or val is ambiguous.

    Args:
        folders: Whether each folder has folders in it, by name.
        where: What messages call the dataset.

    Raises:
        DataError: they are a split with other folders next to it or without train, or it is ambiguous.
    """
    splits = [name for name in folders if name.lower() in SPLIT_FOLDERS]
    others = [name for name in folders if name.lower() not in SPLIT_FOLDERS]
    trains = [name for name in splits if SPLIT_FOLDERS[name.lower()] == "train"]
    if others:
        nested = [name for name in splits if folders[name]]
        usual = "train" in map(str.lower, splits)
        if not (nested and trains) and not (len(splits) > 1 and (nested or usual)):
            return False
        first = (nested or trains)[0]
        raise DataError(
            f"{where}: {few(others)} {'is' if len(others) == 1 else 'are'} next to {few(splits)}, which may be a"
            " split or classes",
            f"for a split, keep only the split folders there; if {first} is a class, rename its folder, for example to"
            f" {first}_class",
        )
    if not splits:
        return False
    if not trains:
        raise DataError(
            f"{where}: {few(splits)} without train",
            f"add train; if {splits[0]} is a class, rename its folder, for example to {splits[0]}_class",
        )
    return True
