"""Resources in a file: one SQLite table, with a row of JSON for each."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

_SCHEMA = """
create table if not exists resources (
    key text primary key, id text not null, number integer not null, created text not null, modified text not null,
    body text not null
) without rowid
"""


class ResourceRow(NamedTuple):
    """One resource as it is kept; the key is its path in lower case, the body is JSON."""

    key: str
    id: str
    number: int
    created: str
    modified: str
    body: str


class ResourceDatabase:
    """The table. What was written survives a crash of this process; a crash of the machine may lose the last writes.

    Args:
        file: The database; created if it is missing.
    """

    def __init__(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        self._connection = sqlite3.connect(file, check_same_thread=False)
        self._connection.execute("pragma journal_mode = wal")
        self._connection.execute("pragma synchronous = normal")
        self._connection.execute(_SCHEMA)

    def rows(self) -> list[ResourceRow]:
        """Return all resources, oldest first."""
        found = self._connection.execute(
            "select key, id, number, created, modified, body from resources order by number"
        )
        return [ResourceRow(*row) for row in found]

    def change(self, written: Iterable[ResourceRow], gone: Iterable[str]) -> None:
        """Write some resources and remove others by their keys, all or nothing."""
        with self._connection:
            self._connection.executemany("delete from resources where key = ?", [(key,) for key in gone])
            self._connection.executemany("insert or replace into resources values (?, ?, ?, ?, ?, ?)", written)

    def close(self) -> None:
        """Close the file."""
        self._connection.close()


def as_json(body: object) -> str:
    """Return the text of a body; the same for the same content."""
    return json.dumps(body, sort_keys=True, separators=(",", ":"))
