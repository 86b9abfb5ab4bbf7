"""Where local state lives: everything is written below one folder, ``outputs/`` unless MLOPS_HOME moves it."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

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
