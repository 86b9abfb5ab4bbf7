"""Keeps rows of numbers on disk: what is known of each image, without memory for all of them."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt


class RowFile:
    """A table of fixed width in a file without a name, which disappears with the process, however that ends.

    Args:
        folder: Where the file is; it needs room for rows x width.
        width: Number of values in a row.
        dtype: Type of the values.
    """

    def __init__(self, folder: Path, width: int, dtype: npt.DTypeLike) -> None:
        self.width = width
        self.dtype = np.dtype(dtype)
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - closed by close()
        self._bytes = self.width * self.dtype.itemsize

    def write(self, index: int, values: npt.NDArray[Any]) -> None:
        """Write rows (N, width), or one (width,), from row ``index`` on. Threads may write different rows at once."""
        data = memoryview(np.ascontiguousarray(values, self.dtype).tobytes())
        offset = index * self._bytes
        while data:
            written = os.pwrite(self._file.fileno(), data, offset)
            data, offset = data[written:], offset + written

    def read(self, start: int, stop: int) -> npt.NDArray[Any]:
        """Return rows ``start`` to ``stop``, (stop - start, width); rows that were never written are 0."""
        wanted = (stop - start) * self._bytes
        data = os.pread(self._file.fileno(), wanted, start * self._bytes)
        data += bytes(wanted - len(data))  # the file ends with the last row that was written
        return np.frombuffer(data, self.dtype).reshape(-1, self.width)

    def pick(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        """Return the given rows, which must ascend, (N, width); adjacent rows are read at once."""
        if not len(rows):
            return np.empty((0, self.width), self.dtype)
        runs = np.split(rows, np.flatnonzero(np.diff(rows) > 1) + 1)
        return np.concatenate([self.read(int(run[0]), int(run[-1]) + 1) for run in runs])

    def blocks(self, rows: npt.NDArray[np.int64], size: int = 512) -> Iterator[tuple[slice, npt.NDArray[Any]]]:
        """Go through the given rows, which must ascend, a block at a time: (places in ``rows``, values)."""
        for start in range(0, len(rows), size):
            chunk = rows[start : start + size]
            yield slice(start, start + len(chunk)), self.pick(chunk)

    def close(self) -> None:
        """Free the disk space."""
        self._file.close()

    def __enter__(self) -> RowFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
