"""The files of a folder, with what tells whether they have changed."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from vision_mlops.core.errors import DataError
from vision_mlops.core.files import CLUTTER
from vision_mlops.core.hash_memory import Mark, mark_of
from vision_mlops.storage.blob_names import ascii_safe


class File(NamedTuple):
    """A file of the folder: absolute path, and mark of its state; ``mark[1]`` is its size in bytes."""

    path: str
    mark: Mark


def walk(folder: Path, *, lenient: bool = False) -> dict[str, File]:
    """Files below a folder by relative name, with / between its parts.

    Links to files and folders are followed, but not into a folder that they are in. What file browsers leave is left out.

    Args:
        folder: The folder.
        lenient: Leave out links that lead nowhere, and what is neither file nor folder, instead of refusing them.

    Raises:
        DataError: there is such a thing, or a folder may not be read.
    """
    root = os.path.abspath(folder)  # noqa: PTH100 - as a text, links in it stay
    found: dict[str, File] = {}
    try:
        facts = os.stat(root)  # noqa: PTH116
        for name, file in _walk(root, "", {(facts.st_dev, facts.st_ino)}, lenient):
            found[name] = file
    except OSError as error:
        raise DataError(
            f"{ascii_safe(str(error.filename))} cannot be read: {error.strerror}", "check its permissions"
        ) from error
    return found


def look_at(files: Mapping[str, Path]) -> dict[str, File]:
    """Files that were chosen already, by the names that they shall have.

    Raises:
        DataError: one cannot be read, or is none.
    """
    found: dict[str, File] = {}
    for name, path in files.items():
        try:
            facts = path.stat()
        except OSError as error:
            raise DataError(f"{ascii_safe(str(path))} cannot be read: {error.strerror}", "check the path") from error
        if not stat.S_ISREG(facts.st_mode):
            raise DataError(f"{ascii_safe(str(path))} is no file", "take it out of the folder")
        found[name] = File(os.path.abspath(path), mark_of(facts))  # noqa: PTH100 - as a text, links in it stay
    return found


def _walk(folder: str, prefix: str, above: set[tuple[int, int]], lenient: bool) -> Iterator[tuple[str, File]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            name = entry.name
            if name in CLUTTER:
                continue
            try:
                facts = entry.stat()
            except FileNotFoundError as error:
                if lenient or not entry.is_symlink():  # else it was removed at this moment
                    continue
                raise DataError(
                    f"{ascii_safe(entry.path)} is a link to nothing", "remove the link, or bring back what it points to"
                ) from error
            if stat.S_ISREG(facts.st_mode):
                yield prefix + name, File(entry.path, mark_of(facts))
            elif stat.S_ISDIR(facts.st_mode):
                identity = (facts.st_dev, facts.st_ino)
                if identity not in above:
                    yield from _walk(entry.path, f"{prefix}{name}/", above | {identity}, lenient)
            elif not lenient:
                raise DataError(f"{ascii_safe(entry.path)} is neither a file nor a folder", "take it out of the folder")
