"""Files of JSON lines that several processes of a server write side by side, each its own, and of which each is whole.

A file is called ``NAME.jsonl.part`` while it is written, and ``NAME.jsonl`` once it is complete, when it never changes any
more. Names begin with the time: ``20260131T235959-HOST-PID-RANDOM``. A process holds a lock on the one that it writes, so
that what a killed process left behind is found and finished by another one. A line for which there is no room is taken
back, so that none is ever torn.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import socket
import time
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

ENDING = ".jsonl"
_PART = f"{ENDING}.part"
_TAIL = 64 * 1024

_log = logging.getLogger(__name__)


@dataclass
class RecordFiles:
    """One process's file in a folder, and the order in that folder. For one thread.

    Args:
        folder: Made when it is needed.
        max_bytes: Maximum size of all files in it; complete ones are removed, the oldest first, before they exceed it.
        file_bytes: Size at which a file is complete.
        seconds: A new file begins with each such span of the clock; by default each hour.
        dropped: Called with the number of lines of a file that was removed.
    """

    folder: Path
    _: KW_ONLY
    max_bytes: int
    file_bytes: int = 8 * 1024 * 1024
    seconds: float = 3600.0
    dropped: Callable[[int], object] = lambda number: None
    _path: Path | None = field(default=None, init=False)
    _descriptor: int = field(default=-1, init=False)
    _size: int = field(default=0, init=False)
    _span: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self.file_bytes = min(self.file_bytes, max(1, self.max_bytes // 4))

    def write(self, line: bytes) -> None:
        """Append a line, which ends with a newline. Raise OSError if there is no room; then nothing of it is written."""
        self.rotate()
        if self._path is None:
            self._open()
        try:
            _write(self._descriptor, line)
        except OSError:
            os.ftruncate(self._descriptor, self._size)
            if self._size == 0:
                self.finish()
            raise
        self._size += len(line)

    def rotate(self) -> None:
        """Finish the file if its time is over or it is large enough."""
        if self._path is not None and (self._size >= self.file_bytes or self._span != int(time.time() // self.seconds)):
            self.finish()

    def finish(self) -> None:
        """Complete the file; remove it if it has no lines."""
        if self._path is None:
            return
        path, self._path = self._path, None
        try:
            _complete(path, self._descriptor, self._size)
        except OSError as error:
            _log.warning("%s stays unfinished: %s", path.name, error.strerror or error)
        finally:
            os.close(self._descriptor)
        self.trim()

    def adopt(self) -> None:
        """Finish the files of processes that have ended; a line that one was writing is cut off."""
        for path in self.folder.glob(f"*{_PART}"):
            with contextlib.suppress(OSError):  # another one has just done so, or it cannot be done
                descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    _complete(path, descriptor, _whole_lines(descriptor))
                finally:
                    os.close(descriptor)

    def trim(self) -> None:
        """Remove the oldest complete files while there is too much."""
        total = sum(_size(path) for path in self.folder.glob("*") if path.suffix in (ENDING, ".part"))
        for path in finished(self.folder):
            if total <= self.max_bytes:
                return
            lines, size = count_lines(path), _size(path)
            try:
                path.unlink()
            except OSError:  # it was sent, or removed by another process
                continue
            total -= size
            self.dropped(lines)
            _log.warning("%s was removed with %d records, as there is no more room for them", path.name, lines)

    def _open(self) -> None:
        self.trim()
        now = time.time()
        self.folder.mkdir(parents=True, exist_ok=True)
        stamp = datetime.fromtimestamp(now, UTC).strftime("%Y%m%dT%H%M%S")
        name = f"{stamp}-{socket.gethostname().partition('.')[0]}-{os.getpid()}-{os.urandom(3).hex()}"
        path = self.folder / f"{name}{_PART}"
        while True:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if os.fstat(descriptor).st_nlink:
                break
            os.close(descriptor)  # before it was locked, another process took it for one that was left behind
        self._path, self._descriptor, self._size = path, descriptor, 0
        self._span = int(now // self.seconds)


def finished(folder: Path) -> list[Path]:
    """Return the complete files in a folder, the oldest first."""
    return sorted(folder.glob(f"*{ENDING}"))


def day_of(path: Path) -> str:
    """Return the day in UTC on which a file was started, as folders: ``2026/01/31``."""
    return f"{path.name[:4]}/{path.name[4:6]}/{path.name[6:8]}"


def count_lines(path: Path) -> int:
    """Return the number of lines of a file; 0 if it is gone."""
    try:
        with path.open("rb") as stream:
            return sum(piece.count(b"\n") for piece in iter(lambda: stream.read(_TAIL), b""))
    except OSError:
        return 0


def _complete(path: Path, descriptor: int, size: int) -> None:
    if size == 0:
        path.unlink()
        return
    os.ftruncate(descriptor, size)
    os.fsync(descriptor)
    path.rename(path.with_name(path.name.removesuffix(_PART) + ENDING))


def _whole_lines(descriptor: int) -> int:
    """Return the number of bytes up to the end of the last whole line."""
    end = os.fstat(descriptor).st_size
    while end > 0:
        begin = max(0, end - _TAIL)
        found = os.pread(descriptor, end - begin, begin).rfind(b"\n")
        if found >= 0:
            return begin + found + 1
        end = begin
    return 0


def _write(descriptor: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
