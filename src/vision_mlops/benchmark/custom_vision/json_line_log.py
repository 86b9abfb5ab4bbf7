"""A file of JSON lines that grows while work is done, so that work that was interrupted goes on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


class JsonLineLog:
    """Rows on disk. A process that is killed while it writes leaves at most one part of a row, which is removed.

    Args:
        path: The file; it and its folder are made where they are missing.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        content = path.read_bytes() if path.exists() else b""
        whole = content[: content.rfind(b"\n") + 1]
        if whole != content:
            with path.open("r+b") as stream:
                stream.truncate(len(whole))
        self.rows: list[Any] = [json.loads(line) for line in whole.splitlines()]
        """What earlier runs have written."""

    def add(self, row: Any) -> None:
        """Write a row; it is with the operating system when this returns."""
        with self._path.open("ab") as stream:
            stream.write(json.dumps(row).encode() + b"\n")

    def clear(self) -> None:
        """Remove all rows."""
        self.rows = []
        self._path.unlink(missing_ok=True)
