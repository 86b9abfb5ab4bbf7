"""Files and folders: written whole or not at all, removed for good, and those that are no part of any data."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from vision_mlops.core.errors import MlopsError

CLUTTER = frozenset({
    ".ds_store", "__macosx", ".appledouble", ".spotlight-v100", ".trashes", ".fseventsd", ".temporaryitems", "icon\r",
    "thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin", "system volume information", "lost+found",
    "@eadir", "#recycle", "#snapshot", "picasa.ini", ".picasa.ini", ".ipynb_checkpoints", ".mlops-download",
})  # fmt: skip
"""Names, in lower case, of files and folders that file browsers, notebooks and interrupted downloads leave next to data.

They are not part of it: they are not read, hashed, uploaded or downloaded.
"""


def is_clutter(name: str) -> bool:
    """Return whether a part of a relative name is :data:`CLUTTER`, or a file that macOS keeps next to another one."""
    parts = name.casefold().split("/")
    return not CLUTTER.isdisjoint(parts) or any(part.startswith("._") for part in parts)


@contextmanager
def atomic_folder(target: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Write a folder next to ``target`` and move it into place only when the body succeeds.

    Args:
        target: The folder to create.
        overwrite: Replace an existing folder; it stays unchanged until the new one is complete.

    Yields:
        An empty temporary folder on the same file system.

    Raises:
        MlopsError: ``target`` exists, is not empty, and ``overwrite`` is false.
    """
    target = target.resolve()  # of a link, the folder that it points to is replaced, not the link
    if target.exists() and not overwrite and (not target.is_dir() or any(target.iterdir())):
        raise MlopsError(f"{target} exists already", "choose another --out, or remove it")
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = _beside(target)
    temporary.mkdir()
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


def remove_path(path: Path) -> None:
    """Remove a file, link or folder, even if a folder in it is read-only. It may be missing."""

    def insist(function: Callable[[str], object], name: str, reason: Any) -> None:
        if not isinstance(reason[1], PermissionError):
            raise reason[1]
        with suppress(PermissionError):  # it belongs to another user: then the removal fails as well
            Path(name).parent.chmod(0o700)
        if function in (os.rmdir, os.unlink):
            function(name)
        else:  # it could not be looked into
            Path(name).chmod(0o700)
            remove_path(Path(name))

    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, onerror=insist)
    else:
        path.unlink(missing_ok=True)


def atomic_write(target: Path, content: str | bytes, *, mode: int | None = None) -> None:
    """Write a file so that a reader sees the old content or the new one, never half of it.

    Args:
        target: The file; its folder is created if needed.
        content: Text is written as UTF-8.
        mode: Permissions; by default those of any new file, according to the umask.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = _beside(target)
    try:
        with temporary.open("xb") as stream:
            if mode is not None:
                os.fchmod(stream.fileno(), mode)
            stream.write(content.encode() if isinstance(content, str) else content)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def _beside(target: Path) -> Path:
    """Return a new hidden name. What :mod:`tempfile` creates belongs to its owner only, whatever the umask."""
    return target.with_name(f".{target.name}.{secrets.token_hex(4)}")
