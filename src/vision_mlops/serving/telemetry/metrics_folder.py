"""The folder in which the processes of one server keep their metrics, so that each of them can report the sum.

It is prometheus_client's multiprocess mode: every process writes its values into files that are mapped into memory, and
the process that is asked adds the files up. Three things differ from its defaults:

- Files belong to a slot, not to a process id. The supervisor has slot 0, gives each worker that it forks a free one, and a
  worker that replaces another continues in the same files: counters of the dead are kept, and restarts do not pile up files.
- All space is allocated before it is mapped. The library makes sparse files, and a process that writes to one on a full
  disk is killed with SIGBUS.
- Files that a killed server left behind are removed by the next one: all processes of a server share one lock, which ends
  with the last of them.

The supervisor opens the folder with :func:`metrics_folder` before it forks; a worker calls :func:`use_slot` after that.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import shutil
import stat
import struct
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
_PREFIX = "mlops-metrics-"
_LOCK = "slots.lock"
_KIB = 1024
# Twice what they hold at the start; a file that grows is allocated first, see reserve().
_SIZES = {
    "counter": 128 * _KIB,
    "histogram": 32 * _KIB,
    "gauge_livemax": 16 * _KIB,
    "gauge_livemin": 16 * _KIB,
    "gauge_livesum": 16 * _KIB,
}
_SPARE = 4 * _KIB
"""Bytes that reserve() leaves free: for the few series made without asking, and what an entry has beside its key."""
_SETTLED_SECONDS = 60.0

_log = logging.getLogger(__name__)


class MetricFiles:
    """One server's folder; :meth:`create` makes one.

    Attributes:
        folder: Path of the folder.
        slot: The slot of this process; -1 before :meth:`use`, and without space for one.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.slot = -1
        self._owner = os.getpid()
        self._lock: IO[str] | None = None
        self._values: Callable[..., object] | None = None
        self._series: set[tuple[str, str]] = set()

    @classmethod
    def create(cls, processes: int) -> MetricFiles | None:
        """Make the folder, in memory where the system has a place for that, else where temporary files go.

        Args:
            processes: Number of workers; there is room for all of them and for the supervisor.

        Returns:
            The folder, or None if no place is writable and has room: then each process only reports its own metrics.
        """
        problems = []
        for parent in _parents():
            _remove_abandoned(parent)
            try:
                folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=parent))
            except OSError as error:
                problems.append(f"{parent}: {error.strerror or error}")
                continue
            made = cls(folder)
            try:
                made._lock = (folder / _LOCK).open("w")
                fcntl.flock(made._lock, fcntl.LOCK_EX)  # workers inherit it
                for slot in range(processes + 1):
                    made._allocate_slot(slot)
            except OSError as error:
                problems.append(f"{parent}: {error.strerror or error}")
                made._remove_files()
            else:
                return made
        _log.warning("metrics are those of one worker only, as their files cannot be written (%s)", "; ".join(problems))
        return None

    def use(self, slot: int) -> None:
        """Keep the metrics that this process makes from now on in a slot, and what it has inherited as well.

        Where there is no space any more, the metrics of this process are its own only.
        """
        from prometheus_client import values

        self.slot = slot
        try:
            self._prepare()
        except OSError as error:
            self.slot = -1
            _log.warning("the metrics of this process are not in the sum over all: %s", error.strerror or error)
            values.ValueClass = values.MutexValue
            return
        os.environ[FOLDER_VARIABLE] = str(self.folder)
        if self._values is None:
            self._values = values.MultiProcessValue(lambda: self.slot)
        values.ValueClass = self._values

    def reserve(self, kind: str, key: str) -> bool:
        """Make sure that a file of this process has space for one more series of a number that is not known beforehand.

        Args:
            kind: Kind of file, such as ``counter``.
            key: The series as the library writes it, see ``prometheus_client.mmap_dict.mmap_key``.

        Returns:
            False if there is none; the series must not be made then.
        """
        if self.slot < 0 or (kind, key) in self._series:
            return True
        try:
            with self._file(kind, self.slot).open("r+b", buffering=0) as stream:
                (used,) = struct.unpack("i", stream.read(4))  # how much of a file is in use stands at its beginning
                allocated = os.fstat(stream.fileno()).st_size
                if used + len(key.encode()) + _SPARE > allocated:
                    os.posix_fallocate(stream.fileno(), 0, 2 * allocated)  # the library doubles, too
        except OSError:
            return False
        self._series.add((kind, key))
        return True

    def forget(self, slot: int) -> None:
        """Forget the gauges of a process that has ended; its counters stay."""
        try:
            self._forget_gauges(slot)
        except OSError as error:  # the next one that uses the slot tries again
            _log.warning("the gauges of an ended process are still counted: %s", error.strerror or error)

    def remove(self) -> None:
        """Remove the folder; metrics are no longer added up."""
        from prometheus_client import values

        self._remove_files()
        if self._owner == os.getpid():
            values.ValueClass = values.MutexValue
            os.environ.pop(FOLDER_VARIABLE, None)

    def _remove_files(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        if self._lock is not None:
            self._lock.close()

    def _prepare(self) -> None:
        """Take over the files of the slot, without the gauges of the process that had it before."""
        from prometheus_client.mmap_dict import MmapedDict

        self._allocate_slot(self.slot)
        self._forget_gauges(self.slot)
        self._series = {
            (kind, key)
            for kind in _SIZES
            for key, *_ in MmapedDict.read_all_values_from_file(str(self._file(kind, self.slot)))
        }

    def _allocate_slot(self, slot: int) -> None:
        for kind, size in _SIZES.items():
            file = self._file(kind, slot)
            if not file.exists():
                new = file.with_suffix(".new")  # an empty file with the final name would be read, and is not valid
                try:
                    _allocate(new, size)
                    new.rename(file)
                finally:
                    new.unlink(missing_ok=True)

    def _forget_gauges(self, slot: int) -> None:
        """Do what ``mark_process_dead`` does, but keep the files: on a full disk, freed space may be lost."""
        for kind in _SIZES:
            if kind.startswith("gauge_") and (file := self._file(kind, slot)).exists():
                with file.open("r+b", buffering=0) as stream:
                    stream.write(bytes(8))  # the number of bytes in use, as in a file that was just allocated

    def _file(self, kind: str, slot: int) -> Path:
        return self.folder / f"{kind}_{slot}.db"


_files: MetricFiles | None = None


@contextlib.contextmanager
def metrics_folder(workers: int = 8) -> Iterator[MetricFiles | None]:
    """Let the processes that are forked in this context share their metrics.

    Args:
        workers: About how many there will be.

    Yields:
        The folder; None if there is none, see :meth:`MetricFiles.create`.
    """
    global _files
    _files = MetricFiles.create(workers)
    try:
        yield _files
    finally:
        if _files is not None:
            _files.remove()
        _files = None


def use_slot(slot: int) -> None:
    """Keep the metrics of this process, which was forked, in a slot of the server's folder; without a folder, do nothing."""
    if _files is not None:
        _files.use(slot)


def shared_files() -> MetricFiles | None:
    """Return the folder of this server; None if processes share nothing."""
    return _files


def _allocate(file: Path, size: int) -> None:
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.posix_fallocate(descriptor, 0, size)
    finally:
        os.close(descriptor)


def _parents() -> Iterator[Path]:
    """Yield where the folder may be, best first; the user may name one by the variable of the library."""
    named = os.environ.get(FOLDER_VARIABLE, "").strip()
    if named:
        yield Path(named)
    yield Path("/dev/shm")
    try:
        yield Path(tempfile.gettempdir())
    except FileNotFoundError:  # none is writable
        return


def _remove_abandoned(parent: Path) -> None:
    """Remove folders of this user whose server has ended, with all of its processes."""
    for folder in parent.glob(f"{_PREFIX}*"):
        try:
            found = folder.lstat()
            if found.st_uid != os.getuid() or not stat.S_ISDIR(found.st_mode):
                continue
            if time.time() - found.st_mtime < _SETTLED_SECONDS:
                continue  # it may not be locked yet
            with (folder / _LOCK).open("ab") as stream:  # made where the server was killed before it did
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
        except OSError:  # it is in use, or has just been removed by another
            continue
