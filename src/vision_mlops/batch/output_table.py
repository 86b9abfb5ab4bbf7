"""The output of a batch: a table as CSV or Parquet, and a list of the images that have no row."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from typing import Any

from vision_mlops.batch.image_sources import ListedImage
from vision_mlops.batch.prediction_rows import DIGITS, Failed, Scored, ScoringModel, columns, to_values
from vision_mlops.core.csv_cells import write_rows
from vision_mlops.core.errors import DataError, require

SUFFIXES = (".csv", ".parquet")
_ROW_GROUP = 10_000


def check_format(out: Path) -> None:
    """Refuse an output that could not be written in the end.

    Raises:
        DataError: its suffix is none of :data:`SUFFIXES`.
        MissingExtraError: Parquet is not installed.
    """
    if out.suffix.lower() not in SUFFIXES:
        raise DataError(f"--out {out}: unknown format", f"name a file with {' or '.join(SUFFIXES)}")
    if out.is_dir():
        raise DataError(f"--out {out} is a folder", "name a file")
    if out.suffix.lower() == ".parquet":
        require("pyarrow")


def write_table(
    out: Path, work: Path, rows: Iterable[tuple[ListedImage, Scored]], model: ScoringModel, classes: Sequence[str]
) -> dict[str, int]:
    """Write all rows. The file is replaced as a whole or not at all.

    Args:
        out: The file; its suffix says the format.
        work: Folder on the same file system, for what is not complete yet.
        rows: Images with their scores.
        model: What rows say about the model.
        classes: Its classes.

    Returns:
        How many images got each label.
    """
    labels = dict.fromkeys(classes, 0)

    def counted() -> Iterator[list[Any]]:
        for listed, scored in rows:
            values = to_values(listed.name, scored, model, classes)
            labels[values[1]] += 1
            yield values

    with _replacing(out, work) as temporary:
        if out.suffix.lower() == ".csv":
            _write_csv(temporary, columns(classes), map(_rounded, counted()))
        else:
            _write_parquet(temporary, classes, counted())
    return labels


def write_errors(file: Path, work: Path, rows: Iterable[tuple[ListedImage, Failed]], count: int) -> None:
    """Write image, code and message of each failure; without any, an older file of that name is removed."""
    if not count:
        file.unlink(missing_ok=True)
        return
    with _replacing(file, work) as temporary:
        found = ([listed.name, failed.code, failed.message] for listed, failed in rows)
        _write_csv(temporary, ["image", "code", "message"], found)


@contextmanager
def _replacing(target: Path, work: Path) -> Iterator[Path]:
    temporary = work / f"new{target.suffix.lower()}"
    yield temporary
    with temporary.open("rb") as stream:  # what it replaces is removed next: a power cut must not take both
        os.fsync(stream.fileno())
    temporary.replace(target)


def _rounded(values: list[Any]) -> list[Any]:
    return [f"{value:.{DIGITS}f}" if isinstance(value, float) else value for value in values]


def _write_csv(file: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    with file.open("w", encoding="utf-8", newline="") as stream:
        write_rows(stream, chain([header], rows))


def _write_parquet(file: Path, classes: Sequence[str], rows: Iterator[list[Any]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    text, number = pa.string(), pa.float32()
    kinds = [text, text, number, *(number for _ in classes), text, text, text, text, pa.int32(), pa.int32()]
    schema = pa.schema(list(zip(columns(classes), kinds, strict=True)))
    with pq.ParquetWriter(file, schema) as writer:
        while page := list(islice(rows, _ROW_GROUP)):
            arrays = [pa.array(column, kind) for column, kind in zip(zip(*page, strict=True), kinds, strict=True)]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
