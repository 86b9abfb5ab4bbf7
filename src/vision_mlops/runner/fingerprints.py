"""Content hashes of files and folders. What was hashed once is remembered by size and time, so large data costs a stat."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType

from vision_mlops import paths
from vision_mlops.model.bundle import file_hash

_ATTEMPTS = 20
# A file that was written this recently could be written again within the resolution of its time: it is not remembered.
_SETTLED_NS = 2_000_000_000


class Fingerprints:
    """Hashes with a memory in ``cache/fingerprints.db`` below the home folder. Use it as a context manager."""

    def __init__(self) -> None:
        path = paths.home() / "cache" / "fingerprints.db"
        path.parent.mkdir(parents=True, exist_ok=True)
        self._memory = _open_or_make(path)

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
        return total_hash(self.each(folder, relative))

    def each(self, folder: Path, relative: Iterable[str]) -> dict[str, str]:
        """Hash of each of some files below a folder, by its name relative to it. Raises OSError as :meth:`of` does."""
        names = list(relative)
        return dict(zip(names, self._files([folder / name for name in names]), strict=True))

    def _files(self, files: list[Path]) -> list[str]:
        known = self._recall(files)
        digests, fresh = [], []
        now = time.time_ns()
        for file in files:
            facts = file.stat()
            # The time of the last change of anything about it, which nobody can set back.
            mark = (facts.st_ino, facts.st_size, facts.st_ctime_ns)
            name = str(file.absolute())
            digest = known[name][3] if name in known and known[name][:3] == mark else ""
            if not digest:
                digest = file_hash(file)
                if now - facts.st_ctime_ns > _SETTLED_NS:
                    fresh.append((name, *mark, digest))
            digests.append(digest)
        if fresh:
            with contextlib.suppress(sqlite3.Error):  # a full disk: what is not remembered is hashed again
                self._memory.executemany("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?)", fresh)
                self._memory.commit()
        return digests

    def _recall(self, files: list[Path]) -> dict[str, tuple[int, int, int, str]]:
        found: dict[str, tuple[int, int, int, str]] = {}
        for start in range(0, len(files), 500):
            names = [str(file.absolute()) for file in files[start : start + 500]]
            marks = ",".join("?" * len(names))
            query = f"SELECT path, inode, size, time, hash FROM files WHERE path IN ({marks})"
            with contextlib.suppress(sqlite3.Error):  # broken in the middle: the files are hashed
                found |= {row[0]: row[1:] for row in self._memory.execute(query, names).fetchall()}
        return found


def total_hash(digests: Mapping[str, str]) -> str:
    """One hash of the names and hashes of files, in their order."""
    total = hashlib.sha256()
    for name, digest in digests.items():
        total.update(f"{name}\0{digest}\n".encode("utf-8", "surrogateescape"))
    return total.hexdigest()


def _open_or_make(path: Path) -> sqlite3.Connection:
    """The memory; one that ends with the process where the file cannot be used, such as on a full disk."""
    for _ in range(_ATTEMPTS):
        try:
            return _open(path)
        except sqlite3.OperationalError:  # another process makes it at this moment: SQLite does not wait for that
            time.sleep(0.05)
        except sqlite3.DatabaseError:  # broken: it can be made again
            for extra in ("", "-wal", "-shm"):
                path.with_name(path.name + extra).unlink(missing_ok=True)
    return _open(":memory:")


def _open(path: Path | str) -> sqlite3.Connection:
    memory = sqlite3.connect(path, timeout=30)
    try:
        memory.execute("PRAGMA journal_mode=WAL")
        memory.execute("PRAGMA synchronous=OFF")  # it can be made again
        memory.execute(
            "CREATE TABLE IF NOT EXISTS files (path TEXT PRIMARY KEY, inode INTEGER, size INTEGER, time INTEGER, hash TEXT)"
        )
        memory.execute("SELECT path, inode, size, time, hash FROM files LIMIT 1").fetchone()
    except sqlite3.Error:
        memory.close()
        raise
    return memory


def unreadable(path: Path) -> Path | None:
    """The first file or folder, at a path or below it, that this user may not read; None where all can be read."""
    try:
        files = [path / name for name in _files(path)] if path.is_dir() else [path]
    except OSError as error:
        return Path(error.filename or path)
    return next((file for file in files if not os.access(file, os.R_OK)), None)


def _files(folder: Path) -> list[str]:
    """Relative names of the files below a folder; links to folders are followed once, broken links left out."""

    def refuse(error: OSError) -> None:
        raise error

    found: list[str] = []
    seen: set[tuple[int, int]] = set()
    for root, folders, names in os.walk(folder, followlinks=True, onerror=refuse):
        facts = Path(root).stat()
        if (facts.st_dev, facts.st_ino) in seen:
            folders.clear()
            continue
        seen.add((facts.st_dev, facts.st_ino))
        found += [os.path.relpath(os.path.join(root, name), folder) for name in names]  # noqa: PTH118
    return [name for name in found if (folder / name).is_file()]
