"""Corrections in a folder: SQLite for what was said, and a file for each image.

Several processes may use it, and each may be killed at any moment. Writers take turns by the write lock of the database.
A writer first puts the image into place, whole, and then commits the row: an image without a row is what a killed one has
left, and the next writer removes it. The journal is the plain one, not a write-ahead log, which needs memory that
processes share and so does not work on network drives.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path
from urllib.parse import quote

from vision_mlops.core.errors import DataError
from vision_mlops.core.files import atomic_write
from vision_mlops.flask_app.corrections.correction import FIELDS, Correction, check_image, check_room

DATABASE = "corrections.db"
IMAGES = "images"
_BUSY_SECONDS = 30.0
_COLUMNS = ", ".join(FIELDS)
_SCHEMA = f"""
CREATE TABLE IF NOT EXISTS images (name TEXT PRIMARY KEY, size INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS corrections ({_COLUMNS}, PRIMARY KEY (id));
"""


class FolderStore:
    """The corrections of a folder; it is made with the first one.

    Args:
        folder: Folder of the corrections.
        limit_bytes: Maximum size of the folder.
    """

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self._folder = folder.absolute()
        self._limit = limit_bytes
        self._cleaned = False

    def add(self, correction: Correction, image: bytes) -> None:
        """Keep a correction, as :meth:`CorrectionStore.add` says."""
        check_image(correction, image)
        with self._writing() as database:
            if not self._cleaned:
                self._remove_leftovers(database)
                self._cleaned = True
            renewed = database.execute(
                "UPDATE corrections SET at = max(at, ?) WHERE id = ?", (correction.at, correction.id)
            )
            if renewed.rowcount:
                return
            name = correction.image_name
            known = database.execute("SELECT 1 FROM images WHERE name = ?", (name,)).fetchone()
            check_room(str(self._folder), self._size(database), 0 if known else len(image), self._limit)
            if not known or not (self._folder / IMAGES / name).is_file():
                self._write(name, image)
                database.execute("INSERT OR REPLACE INTO images VALUES (?, ?)", (name, len(image)))
            values = ", ".join(f":{field}" for field in FIELDS)
            database.execute(f"INSERT INTO corrections ({_COLUMNS}) VALUES ({values})", asdict(correction))

    def list(self) -> Iterator[Correction]:
        """Yield all corrections, as :meth:`CorrectionStore.list` says."""
        if not (self._folder / DATABASE).is_file():
            raise DataError(
                f"{self._folder} has no corrections: it has no {DATABASE}",
                "give the folder that MLOPS_APP_CORRECTIONS names where the web frontend runs",
            )
        with self._open("rw") as database:  # what a killed writer began is rolled back first
            rows = database.execute(f"SELECT {_COLUMNS} FROM corrections ORDER BY at, id").fetchall()
        try:
            yield from [Correction(*row) for row in rows]
        except (ValueError, TypeError) as error:
            raise self._refused(str(error)) from error

    def image(self, correction: Correction) -> bytes:
        """Return the image of a correction, as :meth:`CorrectionStore.image` says."""
        path = self._folder / IMAGES / correction.image_name
        try:
            image = path.read_bytes()
            check_image(correction, image)
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror}") from error
        except ValueError as error:
            raise DataError(f"{path} was changed after it was received") from error
        return image

    def size_bytes(self) -> int:
        """Return the size of the images and the database; 0 before the first correction."""
        if not (self._folder / DATABASE).is_file():
            return 0
        with self._open("rw") as database:
            return self._size(database)

    def close(self) -> None:
        """Do nothing: the database is only open while it is read or written."""

    @staticmethod
    def _size(database: sqlite3.Connection) -> int:
        (images,) = database.execute("SELECT coalesce(sum(size), 0) FROM images").fetchone()
        (pages,) = database.execute("PRAGMA page_count").fetchone()
        (page,) = database.execute("PRAGMA page_size").fetchone()
        return int(images + pages * page)

    def _write(self, name: str, image: bytes) -> None:
        """Put an image into place, so that it is on the disk before the row that names it."""
        path = self._folder / IMAGES / name
        atomic_write(path, image)
        for place in (path, path.parent):
            descriptor = os.open(place, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def _remove_leftovers(self, database: sqlite3.Connection) -> None:
        """Remove images that no row names: no other process writes now, so they are those of one that was killed."""
        known = {name for (name,) in database.execute("SELECT name FROM images")}
        for path in (self._folder / IMAGES).glob("*"):
            if path.name not in known and path.is_file():
                path.unlink(missing_ok=True)

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """Open a transaction that no other process writes beside."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._refused(error.strerror or str(error)) from error
        with self._open("rwc") as database:
            database.execute("BEGIN IMMEDIATE")
            try:
                for statement in _SCHEMA.strip().split(";\n"):
                    database.execute(statement)
                yield database
                database.execute("COMMIT")
            except BaseException:
                if database.in_transaction:
                    database.execute("ROLLBACK")
                raise

    @contextmanager
    def _open(self, mode: str) -> Iterator[sqlite3.Connection]:
        address = f"file:{quote(str(self._folder / DATABASE))}?mode={mode}"
        try:
            connection = sqlite3.connect(address, uri=True, timeout=_BUSY_SECONDS, isolation_level=None)
            with closing(connection) as database:
                yield database
        except sqlite3.Error as error:
            raise self._refused(str(error)) from error
        except OSError as error:
            raise self._refused(error.strerror or str(error)) from error

    def _refused(self, reason: str) -> DataError:
        return DataError(
            f"{self._folder}: corrections cannot be read or written: {reason}",
            f"check its permissions and the disk; restore a damaged {DATABASE} from a backup",
        )
