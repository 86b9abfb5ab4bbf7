"""The progress of a batch on disk: an SQLite database beside the output, so that ``kill -9`` loses a second at most."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path

import numpy as np

from vision_mlops.batch.image_sources import ListedImage
from vision_mlops.batch.prediction_rows import Failed, Outcome, Scored
from vision_mlops.core.errors import DataError

_FORMAT = 1
_PAGE = 1000
_COMMIT_SECONDS = 1.0
_TABLES = """
CREATE TABLE IF NOT EXISTS about (text TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS listing (
    position INTEGER PRIMARY KEY, image BLOB NOT NULL, size INTEGER NOT NULL, version TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS results (
    image BLOB PRIMARY KEY, size INTEGER NOT NULL, version TEXT NOT NULL,
    sha256 TEXT, width INTEGER, height INTEGER, probabilities BLOB, code TEXT, message TEXT) WITHOUT ROWID;
"""
_DONE = "FROM listing JOIN results USING (image, size, version)"
# Disks and networks recover: what could not be read is tried again by the next run.
_TRIED_AGAIN = "unreadable"


class BatchJournal:
    """The images of a batch in their order, and what became of each. Use it as a context manager.

    Args:
        file: The database; created where it does not exist. Only one process can have it open.
        about: Facts that results depend on: results of another model or other options are not mixed with these.
        restart: Discard what is there.

    Raises:
        DataError: it was started with something else, another process has it open, or it is broken.
    """

    def __init__(self, file: Path, about: Mapping[str, str], *, restart: bool = False) -> None:
        self._file = file
        self._database = sqlite3.connect(file, timeout=0, isolation_level=None)
        try:
            self._open({**about, "format": str(_FORMAT)}, restart)
        except DataError:
            self._database.close()
            raise
        except sqlite3.DatabaseError as error:
            self._database.close()
            if isinstance(error, sqlite3.OperationalError) and "locked" in str(error):
                hint = "the same command is running; wait until it has ended"
                raise DataError(f"{file.parent} is in use", hint) from error
            raise DataError(f"{file} cannot be used: {error}", f"remove {file.parent} and start over") from error
        self._saved = time.monotonic()

    def _open(self, about: dict[str, str], restart: bool) -> None:
        self._database.execute("PRAGMA locking_mode = EXCLUSIVE")
        self._database.execute("PRAGMA synchronous = NORMAL")
        self._database.execute("BEGIN EXCLUSIVE")
        if restart:
            for (table,) in self._database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
                self._database.execute(f'DROP TABLE "{table}"')
        for statement in _TABLES.split(";"):
            self._database.execute(statement)
        found = self._database.execute("SELECT text FROM about").fetchone()
        if found is None:
            self._database.execute("INSERT INTO about VALUES (?)", (json.dumps(about),))
        else:
            self._compare(json.loads(found[0]), about)
        self._database.execute("DELETE FROM results WHERE code = ?", (_TRIED_AGAIN,))
        self._commit()

    def _compare(self, before: Mapping[str, str], now: Mapping[str, str]) -> None:
        differing = [key for key in now if before.get(key) != now[key]]
        if differing:
            shown = ", ".join(f"{key} {before.get(key, 'unknown')!r}, now {now[key]!r}" for key in differing)
            raise DataError(
                f"{self._file.parent} was started with another {shown}",
                "continue with the command that started it, choose another --out, or start over with --restart",
            )

    def __enter__(self) -> BatchJournal:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(sqlite3.Error):  # after a full disk there is nothing to save
            self._database.execute("COMMIT")
        self._database.close()

    def _commit(self) -> None:
        self._database.execute("COMMIT")
        self._database.execute("BEGIN")
        self._saved = time.monotonic()

    def list(self, images: Iterable[ListedImage]) -> None:
        """Record the images of this run, in their order. Results of the same files are kept."""
        self._database.execute("DELETE FROM listing")
        rows = ((position, *listed) for position, listed in enumerate(images))
        while page := list(islice(rows, _PAGE)):
            self._database.executemany("INSERT INTO listing VALUES (?, ?, ?, ?)", page)
        self._commit()

    def todo(self) -> Iterator[ListedImage]:
        """Yield images without a result, in their order; those that get one during the iteration are not repeated."""
        position = -1
        while rows := self._database.execute(
            "SELECT position, listing.image, listing.size, listing.version FROM listing"
            " LEFT JOIN results USING (image, size, version)"
            " WHERE results.image IS NULL AND position > ? ORDER BY position LIMIT ?",
            (position, _PAGE),
        ).fetchall():
            yield from (ListedImage(*row[1:]) for row in rows)
            position = rows[-1][0]

    def add(self, listed: ListedImage, outcome: Outcome) -> None:
        """Keep a result; it is on disk at most about a second later."""
        if isinstance(outcome, Scored):
            values = np.asarray(outcome.probabilities, "<f4").tobytes()
            row = (outcome.sha256, outcome.width, outcome.height, values, None, None)
        else:
            row = (None, None, None, None, outcome.code, outcome.message)  # type: ignore[assignment]
        self._database.execute("INSERT OR REPLACE INTO results VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", (*listed, *row))
        if time.monotonic() - self._saved > _COMMIT_SECONDS:
            self._commit()

    def counts(self) -> tuple[int, int, int]:
        """Return the numbers of all images, of those that have a score, and of those that have an error."""
        (images,) = self._database.execute("SELECT count(*) FROM listing").fetchone()
        scored, failed = self._database.execute(f"SELECT count(sha256), count(code) {_DONE}").fetchone()
        return images, scored, failed

    def scored(self) -> Iterator[tuple[ListedImage, Scored]]:
        """Yield images with their scores, in their order."""
        for row in self._database.execute(
            f"SELECT image, size, version, sha256, width, height, probabilities {_DONE}"
            " WHERE code IS NULL ORDER BY position"
        ):
            yield ListedImage(*row[:3]), Scored(row[3], row[4], row[5], np.frombuffer(row[6], "<f4"))

    def failed(self) -> Iterator[tuple[ListedImage, Failed]]:
        """Yield images with their errors, in their order."""
        for row in self._database.execute(
            f"SELECT image, size, version, code, message {_DONE} WHERE code IS NOT NULL ORDER BY position"
        ):
            yield ListedImage(*row[:3]), Failed(*row[3:])
