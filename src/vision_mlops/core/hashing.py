"""Content hashes of files and folders. What was hashed once is remembered by size and time, so large data costs a stat."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sqlite3
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from vision_mlops.core import paths
from vision_mlops.core.folder_walk import files_once

Mark = tuple[int, int, int]
"""Inode, size, and time in ns of the last change of anything about a file, which cannot be set back."""

_ATTEMPTS = 20
# A file that was written this recently could be written again without a change of its time: it is not remembered.
_SETTLED_NS = 2_000_000_000


def mark_of(facts: os.stat_result) -> Mark:
    """Return what changes when a file does."""
    return facts.st_ino, facts.st_size, facts.st_ctime_ns


def is_settled(mark: Mark, now_ns: int) -> bool:
    """Return whether a file that was read at a given moment may be remembered."""
    return now_ns - mark[2] > _SETTLED_NS


class HashMemory:
    """Hashes of files by absolute path, in one table of ``cache/fingerprints.db``. What cannot be stored is forgotten.

    Args:
        table: Name of the table: one a kind of hash.
    """

    def __init__(self, table: str) -> None:
        path = paths.home() / "cache" / "fingerprints.db"
        path.parent.mkdir(parents=True, exist_ok=True)
        self._table = table
        self._database = _open_or_make(path, table)

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    def recall(self, names: Sequence[str]) -> dict[str, tuple[Mark, str]]:
        """Return mark and hash of the files that are known."""
        query = (
            f"SELECT path, inode, size, time, hash FROM {self._table} WHERE path IN (SELECT value FROM json_each(?))"
        )
        with contextlib.suppress(sqlite3.Error):  # broken in the middle: the files are hashed
            rows = self._database.execute(query, [json.dumps(names)])
            return {path: ((inode, size, changed), digest) for path, inode, size, changed, digest in rows}
        return {}

    def remember(self, rows: Sequence[tuple[str, Mark, str]]) -> None:
        """Store path, mark and hash of files."""
        with contextlib.suppress(sqlite3.Error):  # a full disk: what is not remembered is hashed again
            query = f"INSERT OR REPLACE INTO {self._table} VALUES (?, ?, ?, ?, ?)"
            self._database.executemany(query, [(name, *mark, digest) for name, mark, digest in rows])
            self._database.commit()


def _open_or_make(path: Path, table: str) -> sqlite3.Connection:
    """Open the database, or one in memory if the file cannot be used, for example on a full disk."""
    for _ in range(_ATTEMPTS):
        try:
            return _open(path, table)
        except sqlite3.OperationalError:  # another process is creating it: SQLite does not wait for that
            time.sleep(0.05)
        except sqlite3.DatabaseError:  # broken: it can be made again
            for extra in ("", "-wal", "-shm"):
                path.with_name(path.name + extra).unlink(missing_ok=True)
    return _open(":memory:", table)


def _open(path: Path | str, table: str) -> sqlite3.Connection:
    database = sqlite3.connect(path, timeout=30)
    try:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("PRAGMA synchronous=OFF")  # it can be made again
        columns = "(path TEXT PRIMARY KEY, inode INTEGER, size INTEGER, time INTEGER, hash TEXT)"
        database.execute(f"CREATE TABLE IF NOT EXISTS {table} {columns}")
        database.execute(f"SELECT path, inode, size, time, hash FROM {table} LIMIT 1").fetchone()
    except sqlite3.Error:
        database.close()
        raise
    return database


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
