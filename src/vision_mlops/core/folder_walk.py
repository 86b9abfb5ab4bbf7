"""Everything below a folder, in a fixed order: files, folders, and what is neither or cannot be looked into.

All commands that read a folder of images use this walk. It opens no file, does not follow loops of links, raises nothing for
what cannot be read, and goes as deep as the system allows paths to be long.
"""

from __future__ import annotations

import enum
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

Identity = tuple[int, int]


class EntryKind(enum.StrEnum):
    """What an entry is; all but the first two are worth reporting."""

    FILE = "file"
    FOLDER = "folder"
    UNREADABLE = "unreadable"
    BROKEN_LINK = "broken_link"
    LOOP = "loop"
    SPECIAL = "special"


class Entry(NamedTuple):
    """An entry of a folder.

    Attributes:
        name: Relative to the folder of the walk, with slashes; bytes that are not UTF-8 are surrogate escapes.
        path: The same, including the root of the walk.
        kind: Links are what they point to.
        problem: What is wrong with it, in words; empty for files and folders.
    """

    name: str
    path: str
    kind: EntryKind
    problem: str = ""


def walk(folder: str | os.PathLike[str], leave_out: Callable[[str], bool] = lambda part: False) -> Iterator[Entry]:
    """Yield all entries below a folder, each folder before its content, sorted by the bytes of the parts of their names.

    Links to files and folders are followed, but not into a folder that they are in. An unreadable folder is one entry.

    Args:
        folder: Where to start. If it cannot be read itself, the only entry has an empty name.
        leave_out: Whether an entry of this name, without its folder, is skipped with everything in it.
    """
    root = os.path.abspath(folder)  # noqa: PTH100 - as a text, links in it stay
    open_folders: list[tuple[Iterator[os.DirEntry[str]], str, frozenset[Identity]]] = []

    def enter(name: str, path: str, above: frozenset[Identity]) -> Entry | None:
        try:
            facts = os.stat(path)  # noqa: PTH116
            identity = (facts.st_dev, facts.st_ino)
            if identity in above:
                return Entry(name, path, EntryKind.LOOP, "is a link to a folder that contains it")
            with os.scandir(path) as found:
                entries = sorted(found, key=lambda entry: os.fsencode(entry.name))
        except OSError as error:
            return Entry(name, path, EntryKind.UNREADABLE, f"cannot be read ({error.strerror or error})")
        open_folders.append((iter(entries), f"{name}/" if name else "", above | {identity}))
        return None

    refused = enter("", root, frozenset())
    if refused is not None:
        yield refused
    while open_folders:
        entries, prefix, above = open_folders[-1]
        entry = next(entries, None)
        if entry is None:
            open_folders.pop()
            continue
        if leave_out(entry.name):
            continue
        found = _look_at(entry, prefix + entry.name)
        if found is not None and found.kind is EntryKind.FOLDER:
            refused = enter(found.name, found.path, above)
            found = refused or found
        if found is not None:
            yield found


def files_once(folder: Path, enters: Callable[[Path], bool] = lambda below: True) -> Iterator[str]:
    """Find all files below a folder, in no order, each under one name: a folder that several links lead to is read once.

    Args:
        folder: Where to start.
        enters: Whether a folder is looked into, by its path relative to the start.

    Yields:
        Names relative to the folder, with slashes. Broken links are left out.

    Raises:
        OSError: a folder cannot be read.
    """

    def refuse(error: OSError) -> None:
        raise error

    seen: set[Identity] = set()
    for root, folders, names in os.walk(folder, followlinks=True, onerror=refuse):
        below, facts = Path(root).relative_to(folder), os.stat(root)  # noqa: PTH116
        if (facts.st_dev, facts.st_ino) in seen:
            folders.clear()
            continue
        seen.add((facts.st_dev, facts.st_ino))
        folders[:] = sorted(name for name in folders if enters(below / name))
        yield from ((below / name).as_posix() for name in names if os.path.isfile(os.path.join(root, name)))  # noqa: PTH113, PTH118


def problem_of(path: str) -> str:
    """Say why a path cannot be read as a file; empty for a file."""
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116
    except FileNotFoundError:
        return "is a broken link" if os.path.islink(path) else "no longer exists"  # noqa: PTH114
    except OSError as error:
        return f"cannot be read ({error.strerror or error})"
    if stat.S_ISDIR(mode):
        try:
            os.scandir(path).close()
        except OSError as error:
            return f"cannot be read ({error.strerror or error})"
        return "is a folder"
    return "" if stat.S_ISREG(mode) else "is neither a file nor a folder"


def _look_at(entry: os.DirEntry[str], name: str) -> Entry | None:
    """Return an entry with its kind, or None if it was just removed."""
    try:
        # What the folder says of it is enough where it is no link, and needs no right to look into the folder.
        if entry.is_dir(follow_symlinks=False):
            return Entry(name, entry.path, EntryKind.FOLDER)
        if entry.is_file(follow_symlinks=False):
            return Entry(name, entry.path, EntryKind.FILE)
        mode = entry.stat().st_mode
    except FileNotFoundError:
        return Entry(name, entry.path, EntryKind.BROKEN_LINK, "is a broken link") if entry.is_symlink() else None
    except OSError as error:
        if entry.is_symlink():  # a loop of links, or a target that may not be looked at
            return Entry(name, entry.path, EntryKind.BROKEN_LINK, f"is a broken link ({error.strerror})")
        return Entry(name, entry.path, EntryKind.UNREADABLE, f"cannot be read ({error.strerror or error})")
    if stat.S_ISDIR(mode):
        return Entry(name, entry.path, EntryKind.FOLDER)
    if stat.S_ISREG(mode):
        return Entry(name, entry.path, EntryKind.FILE)
    return Entry(name, entry.path, EntryKind.SPECIAL, "is neither a file nor a folder")
