"""MD5 of files, as Blob Storage keeps it, remembered by size and time."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterable

from vision_mlops.core.hashing import HashMemory, Mark, is_settled
from vision_mlops.storage.local_folders import File

_MANY = 2000


def md5(content: bytes = b"") -> hashlib._Hash:
    """Start an MD5, which detects damage and changes, but does not protect against attackers."""
    return hashlib.md5(content, usedforsecurity=False)


class Hashes:
    """What is remembered of files. Threads may share it between :meth:`recall` and :meth:`close`.

    Args:
        table: ``blob_md5``, or ``blob_etag`` for the versions of blobs that were downloaded.
    """

    def __init__(self, table: str = "blob_md5") -> None:
        self._memory = HashMemory(table)
        self._lock = threading.Lock()
        self._fresh: list[tuple[str, Mark, str, int]] = []
        self._known: dict[str, tuple[Mark, str]] = {}

    def recall(self, files: Iterable[File]) -> None:
        """Look up files."""
        self._known = self._memory.recall([_key(file.path) for file in files])

    def of(self, file: File) -> str:
        """Return what is remembered of a file in its present state; empty if nothing is."""
        mark, kept = self._known.get(_key(file.path), ((0, 0, 0), ""))
        return kept if mark == file.mark else ""

    def note(self, path: str, mark: Mark, kept: str, read_ns: int = 0) -> None:
        """Remember a file that was read at the given time; without one, a file that was just written."""
        if not read_ns or is_settled(mark, read_ns):
            with self._lock:
                self._fresh.append((_key(path), mark, kept, read_ns))

    def save(self) -> None:
        """Store what was noted, except files that may be written again within the resolution of their time."""
        now = time.time_ns()
        with self._lock:
            rows = [(path, mark, kept) for path, mark, kept, read in self._fresh if read or is_settled(mark, now)]
            self._fresh.clear()
        for start in range(0, len(rows), _MANY):
            self._memory.remember(rows[start : start + _MANY])

    def close(self) -> None:
        """Save, and close the memory."""
        self.save()
        self._memory.close()


def _key(path: str) -> str:
    return path.encode("utf-8", "backslashreplace").decode()
