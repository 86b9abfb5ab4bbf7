"""Locks between processes: a file that one of them holds until it lets go or ends, however it ends."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path
from typing import TextIO

_PAUSE_SECONDS = 0.02


def take(path: Path, *, wait: float = 0.0) -> TextIO | None:
    """Take a lock; closing the file lets go of it.

    Args:
        path: Of the lock; its folder is made where needed. Whoever holds the lock may remove the folder with it.
        wait: Seconds to wait for another process.

    Returns:
        The open file, or None where another process, or another part of this one, holds it.
    """
    deadline = time.monotonic() + wait
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock = path.open("a")
        except FileNotFoundError:  # the folder is removed at this moment
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            if time.monotonic() >= deadline:
                return None
            time.sleep(_PAUSE_SECONDS)
            continue
        if _is_file(lock, path):
            return lock
        lock.close()  # removed before it was locked: it would keep nobody away


def is_taken(path: Path) -> bool:
    """Whether a process holds a lock."""
    try:
        lock = path.open("r+")
    except FileNotFoundError:
        return False
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _is_file(lock: TextIO, path: Path) -> bool:
    try:
        return path.stat().st_ino == os.fstat(lock.fileno()).st_ino
    except FileNotFoundError:
        return False
