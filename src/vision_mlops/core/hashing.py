"""Content hashes of files and folders. What was hashed once is remembered by size and time, so large data costs a stat."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path

from vision_mlops.core.folder_walk import files_once
from vision_mlops.core.hash_memory import HashMemory, is_settled, mark_of


class Fingerprints(AbstractContextManager["Fingerprints"]):
    """Hashes with a memory in ``cache/fingerprints.db`` below the home folder. Use it as a context manager."""

    def __init__(self) -> None:
        self._memory = HashMemory("files")

    def __exit__(self, *_: object) -> None:
        self._memory.close()

    def of(self, path: Path) -> str:
        """Return the hash of a file's content, or of the names and contents of all files below a folder.

        Raises:
            OSError: something below it cannot be read.
        """
        if path.is_dir():
            return self.of_files(path, sorted(files_once(path)))
        return self._files([path])[0]

    def of_files(self, folder: Path, relative: Iterable[str]) -> str:
        """Return the hash of some files below a folder, with their names relative to it."""
        return total_hash(self.each(folder, relative))

    def each(self, folder: Path, relative: Iterable[str]) -> dict[str, str]:
        """Hash each of some files below a folder, by its name relative to it. Raises OSError as :meth:`of` does."""
        names = list(relative)
        return dict(zip(names, self._files([folder / name for name in names]), strict=True))

    def _files(self, files: list[Path]) -> list[str]:
        known = self._memory.recall([str(file.absolute()) for file in files])
        digests, fresh = [], []
        now = time.time_ns()
        for file in files:
            mark = mark_of(file.stat())
            name = str(file.absolute())
            digest = known[name][1] if name in known and known[name][0] == mark else ""
            if not digest:
                digest = file_hash(file)
                if is_settled(mark, now):
                    fresh.append((name, mark, digest))
            digests.append(digest)
        if fresh:
            self._memory.remember(fresh)
        return digests


def file_hash(path: Path) -> str:
    """Return the sha256 of a file's content, as hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def total_hash(digests: Mapping[str, str]) -> str:
    """Return one hash of the names and hashes of files, in their order."""
    total = hashlib.sha256()
    for name, digest in digests.items():
        total.update(f"{name}\0{digest}\n".encode("utf-8", "surrogateescape"))
    return total.hexdigest()


def unreadable(path: Path) -> Path | None:
    """Find the first file or folder, at a path or below it, that this user may not read; None if all can be read."""
    try:
        files = [path / name for name in files_once(path)] if path.is_dir() else [path]
    except OSError as error:
        return Path(error.filename or path)
    return next((file for file in files if not os.access(file, os.R_OK)), None)
