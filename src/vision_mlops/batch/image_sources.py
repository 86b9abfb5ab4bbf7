"""Where the images of a batch come from, and the first kind: a folder of this machine."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from vision_mlops.batch.prediction_rows import Failed
from vision_mlops.core.errors import DataError
from vision_mlops.core.folder_walk import EntryKind, problem_of
from vision_mlops.data.image_files import HIDDEN, IGNORED, LeftOut, image_entries

_NO_LOSS = frozenset({IGNORED, HIDDEN, EntryKind.LOOP.value})
_NAMED = 5


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


@dataclass(slots=True)
class Skipped:
    """Files that are not scored: how many, and the first of them, each as a line for a person."""

    count: int = 0
    first: list[str] = field(default_factory=list)

    def add(self, line: str) -> None:
        """Count one more."""
        self.count += 1
        if len(self.first) < _NAMED:
            self.first.append(line)


class Images(ABC):
    """A folder of images, here or in storage.

    Attributes:
        address: Name of the folder, which no other folder has.
        skipped: Files that are not images, so far.
    """

    address: str
    skipped: Skipped

    @abstractmethod
    def listing(self) -> Iterator[ListedImage]:
        """Yield all images, always in the same order."""

    @abstractmethod
    def fetch(self, wanted: Iterable[ListedImage], folder: Path) -> Generator[FetchedImage]:
        """Make images readable, in the given order; temporary files go into ``folder``."""

    def release(self, fetched: FetchedImage) -> None:  # noqa: B027 - a folder of this machine keeps nothing
        """Note that an image is no longer needed."""

    def close(self) -> None:  # noqa: B027 - nor has it anything open
        """Release everything."""


class Folder(Images):
    """A folder of this machine, with all folders in it. Hidden files and folders are not images.

    Raises:
        DataError: the folder does not exist.
    """

    def __init__(self, folder: Path) -> None:
        if not os.path.lexists(folder):
            raise DataError(f"{folder} does not exist", "give a folder of images, or the address of a container")
        if folder.is_file():
            raise DataError(f"{folder} is a file, not a folder", "use `mlops predict` for single images")
        self._root = os.fsencode(folder.resolve())
        self.address = self._root.decode("utf-8", "backslashreplace")
        self.skipped = Skipped()

    def listing(self) -> Iterator[ListedImage]:
        """Yield all images, sorted by the parts of their paths; only the names of one folder of each depth are in memory.

        What cannot be read is listed, too, with the reason.
        """
        self.skipped = Skipped()
        for found in image_entries(os.fsdecode(self._root)):
            if not isinstance(found, LeftOut):
                if found.kind is EntryKind.FILE:
                    yield _listed(found.path, os.fsencode(found.name))
            elif not found.name:
                raise DataError(f"{self.address} {found.problem}", "check its permissions")
            elif found.reason in _NO_LOSS:
                self.skipped.add(found.message)
            else:
                yield ListedImage(os.fsencode(found.name), 0, "")

    def fetch(self, wanted: Iterable[ListedImage], folder: Path) -> Generator[FetchedImage]:
        """Yield them as they are: they are on this machine."""
        for listed in wanted:
            path = os.fsdecode(os.path.join(self._root, listed.key))  # noqa: PTH118
            problem = "" if listed.version else problem_of(path)
            failed = Failed("unreadable", f"{listed.name}: {problem}") if problem else None
            yield FetchedImage(listed, Path(path), failed)


def _listed(path: str, key: bytes) -> ListedImage:
    try:
        status = os.stat(path)  # noqa: PTH116
    except OSError:  # removed since: reading it reports that
        return ListedImage(key, 0, "")
    return ListedImage(key, status.st_size, str(status.st_mtime_ns))
