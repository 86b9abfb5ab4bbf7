"""A file of JSON lines that grows during work, so that interrupted work can continue."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Generic, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from vision_mlops.core.files import atomic_write


class LogRow(BaseModel):
    """The content of a line."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


Row = TypeVar("Row", bound=LogRow)


class JsonLineLog(Generic[Row]):
    """Rows on disk. Unreadable content is removed: an incomplete last line, and damaged lines.

    Args:
        path: The file; it and its folder are created if they are missing.
        kind: Type of the rows.

    Attributes:
        damaged: Number of complete lines that could not be read; their content has to be requested again.
    """

    def __init__(self, path: Path, kind: type[Row]) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        content = path.read_bytes() if path.exists() else b""
        self.rows: list[Row] = []
        """Rows of earlier runs."""
        self.damaged = 0
        read = bytearray()
        for line in io.BytesIO(content):
            row = _row(line, kind)
            if row is not None:
                self.rows.append(row)
                read += line
            else:
                self.damaged += line.endswith(b"\n")
        if read != content:
            atomic_write(path, bytes(read))

    def add(self, row: Row) -> None:
        """Write a row and pass it to the operating system."""
        self.rows.append(row)
        with self._path.open("ab") as stream:
            stream.write(row.model_dump_json().encode() + b"\n")

    def clear(self) -> None:
        """Remove all rows."""
        self.rows = []
        self._path.unlink(missing_ok=True)


def _row(line: bytes, kind: type[Row]) -> Row | None:
    if not line.endswith(b"\n"):
        return None
    try:
        return kind.model_validate_json(line)
    except ValidationError:
        return None
