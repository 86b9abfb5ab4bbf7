"""A memory of what files contained, by their size and time, in a database below the home folder."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path

from vision_mlops.core import paths

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
