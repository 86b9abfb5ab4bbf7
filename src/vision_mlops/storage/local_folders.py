"""The files of a folder, with what tells whether they have changed."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from vision_mlops.core import folder_walk
from vision_mlops.core.errors import DataError
from vision_mlops.core.files import is_clutter
from vision_mlops.core.folder_walk import EntryKind
from vision_mlops.core.hashing import Mark, mark_of
from vision_mlops.storage.blob_names import ascii_safe


class File(NamedTuple):
    """A file of the folder: absolute path, and mark of its state; ``mark[1]`` is its size in bytes."""

    path: str
    mark: Mark


def walk(folder: Path, *, lenient: bool = False) -> dict[str, File]:
    """Return the files below a folder by relative name, with / between its parts.

    Links to files and folders are followed, but not into a folder that they are in. What file browsers leave behind is
    skipped.

    Args:
        folder: The folder.
        lenient: Skip broken links, and what is neither a file nor a folder, instead of refusing them.

    Raises:
        DataError: the folder contains such an entry, or a folder may not be read.
    """
    found: dict[str, File] = {}
    for entry in folder_walk.walk(folder, is_clutter):
        shown = ascii_safe(entry.path)
        if entry.kind is EntryKind.UNREADABLE:
            raise DataError(f"{shown} {entry.problem}", "check its permissions")
        if entry.kind is EntryKind.FILE:
            try:
                found[entry.name] = File(entry.path, mark_of(os.stat(entry.path)))  # noqa: PTH116
            except FileNotFoundError:  # it was removed at this moment
                continue
            except OSError as error:
                raise DataError(f"{shown} cannot be read ({error.strerror})", "check its permissions") from error
        elif entry.kind is EntryKind.BROKEN_LINK and not lenient:
            raise DataError(f"{shown} {entry.problem}", "remove the link, or restore what it points to")
        elif entry.kind is EntryKind.SPECIAL and not lenient:
            raise DataError(f"{shown} {entry.problem}", "remove it from the folder")
    return found


def look_at(files: Mapping[str, Path]) -> dict[str, File]:
    """Return files that were chosen already, by the names that they are to have.

    Raises:
        DataError: one cannot be read, or is not a file.
    """
    found: dict[str, File] = {}
    for name, path in files.items():
        try:
            facts = path.stat()
        except OSError as error:
            raise DataError(f"{ascii_safe(str(path))} cannot be read: {error.strerror}", "check the path") from error
        if not stat.S_ISREG(facts.st_mode):
            raise DataError(f"{ascii_safe(str(path))} is not a file", "remove it from the folder")
        found[name] = File(os.path.abspath(path), mark_of(facts))  # noqa: PTH100 - as a text, links in it stay
    return found
