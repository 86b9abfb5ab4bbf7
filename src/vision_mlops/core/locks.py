"""Locks between processes and threads: a file that one of them holds until it releases it or ends, however it ends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import AcquireReturnProxy, FileLock, Timeout, lock_descriptor

from vision_mlops.core.errors import MlopsError

HeldLock = AcquireReturnProxy[FileLock]
"""A lock that is held, as :func:`take` returns it."""

_PAUSE_SECONDS = 0.02


def take(path: Path, *, wait: float = 0.0) -> HeldLock | None:
    """Take a lock. The end of a ``with`` statement releases it, in any thread, and so does ``.lock.release()``.

    A lock cannot be taken again by the one who holds it.

    Args:
        path: File of the lock; its folder is created if needed. The holder may remove both.
        wait: Seconds to wait for another holder.

    Returns:
        The lock, or None where another process, or another part of this one, holds it.

    Raises:
        MlopsError: the file cannot be written.
    """
    # An object of its own for each call, so that threads exclude each other, too.
    lock = FileLock(path, timeout=wait, poll_interval=_PAUSE_SECONDS, thread_local=False)
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with suppress(FileNotFoundError):  # the folder was just removed: it is created again
                return lock.acquire()
        except Timeout:
            return None
        except OSError as error:
            raise MlopsError(
                f"{path} cannot be written: {error.strerror}",
                "check the permissions of its folder, or set MLOPS_HOME to a folder you can write to",
            ) from error


@contextmanager
def locked(path: Path, refusal: MlopsError, *, wait: float = 0.0) -> Iterator[None]:
    """Hold a lock for the length of a ``with`` statement.

    Args:
        path: As for :func:`take`.
        refusal: Raised where another holder has the lock for longer than ``wait``.
        wait: Seconds to wait for another holder.
    """
    lock = take(path, wait=wait)
    if lock is None:
        raise refusal
    with lock:
        yield


def is_taken(path: Path) -> bool:
    """Return whether a process holds a lock. A missing file is not created."""
    try:
        with path.open("r+") as file:
            return not lock_descriptor(file.fileno(), blocking=False)
    except FileNotFoundError:
        return False
