"""What Custom Vision keeps: one SQLite file with projects, tags, images, iterations and predictions.

Each change is one transaction, so that a kill leaves nothing half-written.
"""

from __future__ import annotations

import sqlite3
import threading
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

_SCHEMA = """
create table if not exists projects (
    id text primary key, account text not null, name text not null, description text not null, settings text not null,
    created text not null, modified text not null
);
create table if not exists tags (
    id text primary key, project text not null references projects on delete cascade, name text not null,
    description text not null, type text not null, created text not null
);
create table if not exists images (
    id text primary key, project text not null references projects on delete cascade, digest text not null,
    created text not null, width integer not null, height integer not null, metadata text not null,
    content blob not null, gone integer not null default 0
);
create index if not exists images_by_digest on images (project, digest);
create table if not exists image_tags (
    image text not null references images on delete cascade, tag text not null references tags on delete cascade,
    created text not null, primary key (image, tag)
) without rowid;
create table if not exists iterations (
    id text primary key, project text not null references projects on delete cascade, name text not null,
    number integer not null, status text not null, created text not null, modified text not null, trained text,
    domain text not null, classification text not null, training_type text not null, budget integer not null,
    minutes integer not null default 0, publish_name text not null default '', publish_target text not null default '',
    fingerprint text not null, content text not null, model blob, judged text
);
create table if not exists predictions (
    id text primary key, project text not null references projects on delete cascade, iteration text not null,
    created text not null, application text not null, results text not null,
    content blob not null
);
create table if not exists usage (
    account text not null, month text not null, what text not null, amount integer not null,
    primary key (account, month, what)
) without rowid;
"""


class VisionDatabase:
    """The file; created when it is used for the first time.

    Args:
        file: Path of the file.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None

    def exists(self) -> bool:
        """Return whether it was ever used."""
        return self._file.exists()

    def rows(self, query: str, values: Sequence[object] = ()) -> list[sqlite3.Row]:
        """Return all rows of a query."""
        with self._lock:
            return list(self._opened().execute(query, values))

    def row(self, query: str, values: Sequence[object] = ()) -> sqlite3.Row | None:
        """Return the first row of a query; None if there is none."""
        with self._lock:
            found: sqlite3.Row | None = self._opened().execute(query, values).fetchone()
            return found

    def number(self, query: str, values: Sequence[object] = ()) -> int:
        """Return the single number of a query."""
        found = self.row(query, values)
        assert found is not None
        return int(found[0] or 0)

    @contextmanager
    def change(self) -> Iterator[sqlite3.Connection]:
        """Make a change, all or nothing; nothing else happens in the meantime."""
        with self._lock:
            connection = self._opened()
            if connection.in_transaction:  # a nested change
                yield connection
                return
            connection.execute("begin immediate")
            with connection:
                yield connection

    def insert(self, table: str, values: dict[str, Any]) -> None:
        """Add a row."""
        names, places = ", ".join(values), ", ".join("?" * len(values))
        with self.change() as connection:
            connection.execute(f"insert into {table} ({names}) values ({places})", list(values.values()))

    def used(self, account: str, what: str) -> int:
        """Return how much of something an account has used in this month."""
        query = "select amount from usage where account = ? and month = ? and what = ?"
        found = self.row(query, (account, _month(), what))
        return int(found["amount"]) if found is not None else 0

    def use(self, account: str, what: str, amount: int) -> None:
        """Count what an account uses."""
        query = "insert into usage values (?, ?, ?, ?) on conflict do update set amount = amount + excluded.amount"
        with self.change() as connection:
            connection.execute(query, (account, _month(), what, amount))

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(self._file, check_same_thread=False, isolation_level=None)
            connection.row_factory = sqlite3.Row
            connection.execute("pragma journal_mode = wal")
            connection.execute("pragma synchronous = normal")
            connection.execute("pragma foreign_keys = on")
            connection.executescript(_SCHEMA)
            self._connection = connection
        return self._connection


def new_id() -> str:
    """Return a new id, as the service creates it."""
    return str(uuid.uuid4())


def moment() -> str:
    """Return the time as the service writes it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _month() -> str:
    return datetime.now(UTC).strftime("%Y-%m")
