"""Where local state lives: everything is written below one folder, ``outputs/`` unless MLOPS_HOME moves it."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from vision_mlops.exceptions import MlopsError


def home() -> Path:
    """Root of all local state, absolute. Read at each call, so that tests and shells can move it."""
    return Path(os.environ.get("MLOPS_HOME") or "outputs").expanduser().resolve()


@contextmanager
def atomic_folder(target: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Write a folder beside ``target`` and move it into place only when the body succeeds.

    Args:
        target: The folder that shall exist afterwards.
        overwrite: Replace an existing one; it stays as it was until the new one is whole.

    Yields:
        An empty temporary folder on the same file system.

    Raises:
        MlopsError: ``target`` exists, is not empty, and ``overwrite`` is false.
    """
    target = target.resolve()  # of a link, the folder that it points to is replaced, not the link
    if target.exists() and not overwrite and (not target.is_dir() or any(target.iterdir())):
        raise MlopsError(f"{target} exists already", "choose another --out, or remove it")
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    temporary.chmod(0o755)
    try:
        yield temporary
        if target.exists():
            old = temporary.with_name(temporary.name + ".old")
            target.rename(old)
            temporary.rename(target)
            shutil.rmtree(old)
        else:
            temporary.rename(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def remove(path: Path) -> None:
    """Remove a file, link or folder, also where a folder in it was made read-only. It may be missing."""

    def insist(function: Callable[[str], object], name: str, reason: Any) -> None:
        if not isinstance(reason[1], PermissionError):
            raise reason[1]
        with suppress(PermissionError):  # of another user: then what is to be done fails as well
            Path(name).parent.chmod(0o700)
        if function in (os.rmdir, os.unlink):
            function(name)
        else:  # it could not be looked into
            Path(name).chmod(0o700)
            remove(Path(name))

    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, onerror=insist)
    else:
        path.unlink(missing_ok=True)


def file_hash(path: Path) -> str:
    """sha256 of a file's content, as hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def atomic_write(target: Path, content: str | bytes) -> None:
    """Write a file so that a reader sees the old content or the new one, never half of it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content.encode() if isinstance(content, str) else content)
        temporary.chmod(0o644)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
