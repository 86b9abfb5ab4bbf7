"""Large files in parts: blocks that go up, with names that say what is in them, and parts that come down, with a journal."""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

from vision_mlops.storage.md5 import md5

_MOST_BLOCKS = 50_000
_MIB = 1024 * 1024
_INDEX_DIGITS = 5
_OWN_LENGTH = _INDEX_DIGITS + 32


class PartialFile:
    """The file, and a journal of the parts that it holds. Use it as a context manager; threads may write at once.

    The journal may be wrong after a power failure, which does no harm: the MD5 of the whole file decides.

    Args:
        path: The file.
        size: Bytes that it will have.
        length: Bytes of a part; the last one may be shorter.
    """

    def __init__(self, path: Path, size: int, length: int) -> None:
        self.path = path
        self._journal_path = path.with_name(f"{path.name}.parts-{length}")
        self._size, self._length = size, length
        self._lock = threading.Lock()
        self._file = self._journal = -1
        self._there: set[int] = set()

    def __enter__(self) -> PartialFile:
        flags = os.O_CREAT | os.O_RDWR
        if not self.path.exists():
            self._journal_path.unlink(missing_ok=True)
        self._file = os.open(self.path, flags, 0o666)
        try:
            os.ftruncate(self._file, self._size)
            self._journal = os.open(self._journal_path, flags | os.O_APPEND, 0o666)
            lines = self._journal_path.read_text(encoding="ascii", errors="replace").split("\n")[:-1]
            self._there = {int(line) for line in lines if line.isdigit()}
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self.close()

    def close(self) -> None:
        """Close file and journal."""
        for descriptor in (self._file, self._journal):
            if descriptor >= 0:
                os.close(descriptor)
        self._file = self._journal = -1

    def missing(self) -> Iterator[tuple[int, int, int]]:
        """Return number, first byte and size of each part that is missing."""
        for index, start in enumerate(range(0, self._size, self._length)):
            if index not in self._there:
                yield index, start, min(self._length, self._size - start)

    def write(self, index: int, start: int, content: bytes) -> None:
        """Write a part."""
        view = memoryview(content)
        while view:
            written = os.pwrite(self._file, view, start)
            view, start = view[written:], start + written
        with self._lock:
            os.write(self._journal, f"{index}\n".encode())

    def md5(self) -> bytes:
        """Return the MD5 of what is in the file."""
        with self.path.open("rb") as stream:
            return hashlib.file_digest(stream, md5).digest()

    def forget(self) -> None:
        """Remove file and journal."""
        self.path.unlink(missing_ok=True)
        self.remove_journal()

    def remove_journal(self) -> None:
        """Remove the journal, once the file is whole."""
        self._journal_path.unlink(missing_ok=True)


def block_size(size: int, block: int) -> int:
    """Return the size of a block of a file: ``block``, or more if there would be too many blocks."""
    least = -(-size // _MOST_BLOCKS)
    return block if least <= block else -(-least // _MIB) * _MIB


class BlockNames:
    """Makes names of blocks: the number of the block and the MD5 of its content.

    All names of a blob's blocks must have the same length. If another program has made some, theirs is used.

    Args:
        there: Names of the blocks that a blob has; those that were sent last come last.
    """

    def __init__(self, there: Iterable[str]) -> None:
        self._length = _OWN_LENGTH
        for name in there:
            self._length = _length(name)
        self.tell_content = self._length >= _OWN_LENGTH
        """Whether equal names mean equal content."""

    def name(self, index: int, md5: bytes) -> str:
        """Return the name of a block, as it is written in a request."""
        text = f"{index:0{_INDEX_DIGITS}d}{md5.hex()}".ljust(self._length, "-")[: max(self._length, _INDEX_DIGITS)]
        return base64.b64encode(text.encode()).decode()


def _length(name: str) -> int:
    try:
        return len(base64.b64decode(name, validate=True))
    except (binascii.Error, ValueError):
        return _OWN_LENGTH
