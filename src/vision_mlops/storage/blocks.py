"""Blocks of large files: their size, and names that say what is in them."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable

_MOST_BLOCKS = 50_000
_MIB = 1024 * 1024
_INDEX_DIGITS = 5
_OWN_LENGTH = _INDEX_DIGITS + 32


def block_size(size: int, block: int) -> int:
    """Bytes of a block of a file: ``block``, or more where there would be too many."""
    least = -(-size // _MOST_BLOCKS)
    return block if least <= block else -(-least // _MIB) * _MIB


class BlockNames:
    """Makes names of blocks: the number of the block and the MD5 of its content.

    All names of a blob's blocks must have one length. Where another program has made some, theirs is taken.

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
        """Name of a block, as it stands in a request."""
        text = f"{index:0{_INDEX_DIGITS}d}{md5.hex()}".ljust(self._length, "-")[: max(self._length, _INDEX_DIGITS)]
        return base64.b64encode(text.encode()).decode()


def _length(name: str) -> int:
    try:
        return len(base64.b64decode(name, validate=True))
    except (binascii.Error, ValueError):
        return _OWN_LENGTH
