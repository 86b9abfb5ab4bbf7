"""Where the images of a batch come from, and the first kind: a folder of this machine."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

from vision_mlops.batch.prediction_rows import Failed
from vision_mlops.core.errors import DataError
from vision_mlops.images.decoding import IMAGE_SUFFIXES


class ListedImage(NamedTuple):
    """An image as it was listed.

    Attributes:
        key: Path relative to the folder, as bytes: a name need not be UTF-8.
        size: Bytes.
        version: Changes with the content: the time of the last change, or the ETag of a blob.
    """

    key: bytes
    size: int
    version: str

    @property
    def name(self) -> str:
        r"""The path as text that can be written anywhere; bytes that are not UTF-8 become ``\xNN``."""
        return self.key.decode("utf-8", "backslashreplace")


class FetchedImage(NamedTuple):
    """An image that is ready to be read, or the reason why it is not."""

    listed: ListedImage
    path: Path
    failed: Failed | None = None


class Images(Protocol):
    """A folder of images, here or in storage."""

    @property
    def address(self) -> str:
        """What the folder is called; another one has another."""
        ...

    @property
    def skipped(self) -> int:
        """Files that are not images, so far."""
        ...

    def listing(self) -> Iterator[ListedImage]:
        """All images, always in the same order."""
        ...

    def fetch(self, wanted: Iterable[ListedImage], folder: Path) -> Generator[FetchedImage]:
        """Make images readable, in the given order; what is kept meanwhile goes into ``folder``."""
        ...

    def release(self, fetched: FetchedImage) -> None:
        """An image is not needed any more."""
        ...

    def close(self) -> None:
        """Let go of everything."""
        ...


def is_image(name: str) -> bool:
    """Whether a file is one to score, by its name."""
    base = name.rpartition("/")[2]
    return not base.startswith(".") and os.path.splitext(base)[1].lower() in IMAGE_SUFFIXES  # noqa: PTH122


class Folder:
    """A folder of this machine, with all folders in it.

    Linked files count; linked folders do not, so that a loop cannot hang us. Hidden files and folders are no images.

    Raises:
        DataError: there is no such folder.
    """

    def __init__(self, folder: Path) -> None:
        if not folder.exists():
            raise DataError(f"{folder} does not exist", "give a folder of images, or the address of a container")
        if not folder.is_dir():
            raise DataError(f"{folder} is a file, not a folder", "for single images there is `mlops predict`")
        self._root = os.fsencode(folder.resolve())
        self.skipped = 0

    @property
    def address(self) -> str:
        """The absolute path."""
        return self._root.decode("utf-8", "backslashreplace")

    def listing(self) -> Iterator[ListedImage]:
        """All images, sorted by the parts of their paths; only the names of one folder of each depth are in memory."""
        self.skipped = 0
        yield from self._below(b"")

    def _below(self, relative: bytes) -> Iterator[ListedImage]:
        with os.scandir(os.path.join(self._root, relative)) as found:  # noqa: PTH118
            entries = sorted(found, key=lambda entry: entry.name)
        for entry in entries:
            key = os.path.join(relative, entry.name)  # noqa: PTH118
            if entry.is_dir(follow_symlinks=False):
                if not entry.name.startswith(b"."):
                    yield from self._below(key)
            elif is_image(os.fsdecode(entry.name)) and (entry.is_file() or _is_broken_link(entry)):
                yield _listed(entry, key)
            else:
                self.skipped += 1

    def fetch(self, wanted: Iterable[ListedImage], folder: Path) -> Generator[FetchedImage]:
        """They are here already."""
        for listed in wanted:
            yield FetchedImage(listed, Path(os.fsdecode(os.path.join(self._root, listed.key))))  # noqa: PTH118

    def release(self, fetched: FetchedImage) -> None:
        """Nothing is kept."""

    def close(self) -> None:
        """Nothing is open."""


def _is_broken_link(entry: os.DirEntry[bytes]) -> bool:
    return entry.is_symlink() and not os.path.exists(entry.path)  # noqa: PTH110


def _listed(entry: os.DirEntry[bytes], key: bytes) -> ListedImage:
    try:
        status = entry.stat()
    except OSError:  # a link that leads nowhere, or gone meanwhile: reading it says so
        return ListedImage(key, 0, "")
    return ListedImage(key, status.st_size, str(status.st_mtime_ns))
