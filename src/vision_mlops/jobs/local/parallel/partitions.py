"""Splits an input into mini-batches, each for one call of an entry script's ``run``.

A folder is split into lists of files, a table into DataFrames of about a given size that never cross the end of a file.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from vision_mlops.core.errors import DataError, PipelineError
from vision_mlops.jobs.local.parallel.tables import Reader, files_below, read_mltable, read_table, reader_of

InputType = Literal["uri_folder", "uri_file", "mltable"]
DEFAULT_FILES = 10
DEFAULT_BYTES = 1024**2
_SIZE = re.compile(r"(\d+)\s*([kmg]b)?", re.IGNORECASE)
_UNITS = {"": 1, "kb": 1024, "mb": 1024**2, "gb": 1024**3}


@dataclass(frozen=True, slots=True)
class MiniBatch:
    """Files, or with a reader the rows ``start`` to ``stop`` of one. It is small: the data is read where it is used."""

    number: int  # from 0, in the order of the input
    paths: tuple[str, ...]
    reader: Reader | None = None
    start: int = 0
    stop: int = 0

    @property
    def items(self) -> int:
        """Number of files or rows."""
        return len(self.paths) if self.reader is None else self.stop - self.start

    def load(self) -> Any:
        """Return the argument of ``run``: a list of paths, or a ``pandas.DataFrame`` counted from row 0."""
        if self.reader is None:
            return list(self.paths)
        return read_table(self.paths[0], self.reader).iloc[self.start : self.stop].reset_index(drop=True)


def split(source: Path, input_type: InputType, size: int | str | None) -> list[MiniBatch]:
    """Split an input into mini-batches, in the order of its files and rows.

    Args:
        source: The folder, file or MLTable.
        input_type: How the definition declares it.
        size: Number of files (10 if None), or for a table about the bytes on disk, such as ``64kb`` (1 MB if None).

    Raises:
        DataError: the input is empty, or cannot be read.
        PipelineError: ``size`` does not fit the input.
    """
    if not source.exists():
        raise DataError(f"the input {source} does not exist", "check the step's input_data")
    files, reader = _files(source, input_type)
    if reader is None:
        count = _file_count(size)
        names = [str(file) for file in files]
        batches = [MiniBatch(i // count, tuple(names[i : i + count])) for i in range(0, len(names), count)]
    else:
        parts = [(file, *rows) for file in files for rows in _parts(file, reader, _bytes(size))]
        batches = [MiniBatch(i, (str(file),), reader, start, stop) for i, (file, start, stop) in enumerate(parts)]
    if not batches:
        raise DataError(f"the input {source} contains no {'files' if reader is None else 'rows'}", "add some first")
    return batches


def _files(source: Path, input_type: InputType) -> tuple[list[Path], Reader | None]:
    if input_type == "mltable":
        return read_mltable(source)
    if input_type == "uri_folder":
        if not source.is_dir():
            raise DataError(f"the input {source} is a file, but declared as uri_folder", "declare it as uri_file")
        return files_below(source), None
    if not source.is_file():
        raise DataError(f"the input {source} is a folder, but declared as uri_file", "declare it as uri_folder")
    return [source], reader_of(source)


def _parts(file: Path, reader: Reader, wanted: int) -> list[tuple[int, int]]:
    """Split the rows of a file into parts of about ``wanted`` bytes: the first row of each, and the one after its last."""
    rows = len(read_table(str(file), reader))
    parts = min(rows, max(1, round(file.stat().st_size / wanted)))
    return [(rows * i // parts, rows * (i + 1) // parts) for i in range(parts)]


def _file_count(size: int | str | None) -> int:
    number, unit = _parse(DEFAULT_FILES if size is None else size)
    if unit:
        message = f"mini_batch_size {size} is a size, but this input is a list of files, which are counted"
        raise PipelineError(message, "write a number of files, such as 10")
    return number


def _bytes(size: int | str | None) -> int:
    number, unit = _parse(DEFAULT_BYTES if size is None else size)
    return number * _UNITS[unit]


def _parse(size: int | str) -> tuple[int, str]:
    found = _SIZE.fullmatch(str(size).strip())
    if found is None or int(found[1]) < 1:
        raise PipelineError(
            f"mini_batch_size {size!r} is not a valid size", "write a number of files, or a size such as 64kb"
        )
    return int(found[1]), (found[2] or "").lower()
