"""Content hashes of files and folders. What was hashed once is remembered by size and time, so large data costs a stat."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import time
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType

from vision_mlops import paths

_BLOCK = 1 << 20
# A file that was written this recently could be written again within the resolution of its time: it is not remembered.
_SETTLED_NS = 2_000_000_000


class Fingerprints:
    """Hashes with a memory in ``cache/fingerprints.db`` below the home folder. Use it as a context manager."""

    def __init__(self) -> None:
        folder = paths.home() / "cache"
        folder.mkdir(parents=True, exist_ok=True)
        self._memory = sqlite3.connect(folder / "fingerprints.db", timeout=30, isolation_level=None)
        self._memory.execute("PRAGMA journal_mode=WAL")
        self._memory.execute("PRAGMA synchronous=OFF")  # it can be made again
        self._memory.execute(
            "CREATE TABLE IF NOT EXISTS files (path TEXT PRIMARY KEY, inode INTEGER, size INTEGER, time INTEGER, hash TEXT)"
        )

    def __enter__(self) -> Fingerprints:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the memory."""
        self._memory.close()

    def of(self, path: Path) -> str:
        """Hash of a file's content, or of the names and contents of all files below a folder.

        Raises:
            OSError: something below it cannot be read.
        """
        if path.is_dir():
            return self.of_files(path, sorted(_files(path)))
        return self._files([path])[0]

    def of_files(self, folder: Path, relative: Iterable[str]) -> str:
        """Hash of some files below a folder, with their names relative to it."""
        names = list(relative)
        total = hashlib.sha256()
        for name, digest in zip(names, self._files([folder / name for name in names]), strict=True):
            total.update(f"{name}\0{digest}\n".encode("utf-8", "surrogateescape"))
        return total.hexdigest()

    def _files(self, files: list[Path]) -> list[str]:
        known = self._recall(files)
        digests, fresh = [], []
        now = time.time_ns()
        for file in files:
            facts = file.stat()
            mark = (facts.st_ino, facts.st_size, facts.st_mtime_ns)
            name = str(file.absolute())
            digest = known[name][3] if name in known and known[name][:3] == mark else ""
            if not digest:
                digest = hash_file(file)
                if now - facts.st_mtime_ns > _SETTLED_NS:
                    fresh.append((name, *mark, digest))
            digests.append(digest)
        if fresh:
            self._memory.execute("BEGIN")
            self._memory.executemany("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?)", fresh)
            self._memory.execute("COMMIT")
        return digests

    def _recall(self, files: list[Path]) -> dict[str, tuple[int, int, int, str]]:
        found: dict[str, tuple[int, int, int, str]] = {}
        for start in range(0, len(files), 500):
            names = [str(file.absolute()) for file in files[start : start + 500]]
            marks = ",".join("?" * len(names))
            query = f"SELECT path, inode, size, time, hash FROM files WHERE path IN ({marks})"
            found |= {row[0]: row[1:] for row in self._memory.execute(query, names)}
        return found


def hash_file(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _files(folder: Path) -> list[str]:
    """Relative names of the files below a folder; links to folders are followed once, broken links left out."""
    found: list[str] = []
    seen: set[tuple[int, int]] = set()
    for root, folders, names in os.walk(folder, followlinks=True):
        facts = Path(root).stat()
        if (facts.st_dev, facts.st_ino) in seen:
            folders.clear()
            continue
        seen.add((facts.st_dev, facts.st_ino))
        found += [os.path.relpath(os.path.join(root, name), folder) for name in names]  # noqa: PTH118
    return [name for name in found if (folder / name).is_file()]
