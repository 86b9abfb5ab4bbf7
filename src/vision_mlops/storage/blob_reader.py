"""Blobs one by one: listed page by page, and each fetched to a file, for those who need a folder but once."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

from vision_mlops.storage.attempts import FileError, StorageRetryPolicy
from vision_mlops.storage.blob_folder import BlobFolder
from vision_mlops.storage.blob_listing import Blob
from vision_mlops.storage.blob_service import BlobService
from vision_mlops.storage.service_errors import RefusalError
from vision_mlops.storage.transfer import BLOCK


class Reading:
    """A folder in storage. Threads may fetch at once.

    Args:
        place: The folder.
        patience: How long requests are tried.
    """

    def __init__(self, place: BlobFolder, patience: StorageRetryPolicy | None = None) -> None:
        self._service = BlobService(place, patience or StorageRetryPolicy())
        self._prefix = place.prefix
        self._lock = threading.Lock()

    def blobs(self) -> Iterator[tuple[str, Blob]]:
        """All blobs by name relative to the folder, in the order of storage, which is that of their names; without noise.

        Raises:
            RefusalError: there is no such container or no right to it, or storage is not reached.
        """
        return self._service.files()

    def fetch(self, name: str, blob: Blob, target: Path) -> None:
        """Write a blob to a file, in parts whose MD5 is compared, all of one version.

        Raises:
            FileError: this one cannot be had: it is gone, or changes all the time, or is refused.
            RefusalError: no other would fare better.
            StoppedError: see :meth:`stop`.
        """
        try:
            self._service.read(self._prefix + name, blob, lambda newest: self._write(name, newest, target))
        except RefusalError as error:
            if error.transient:
                with self._lock:
                    self._service.require()  # raises where it is not about this blob
            if error.fatal:
                raise
            raise FileError(error.message) from error

    def _write(self, name: str, blob: Blob, target: Path) -> None:
        with target.open("wb") as stream:
            for start in range(0, blob.size, BLOCK):
                size = min(BLOCK, blob.size - start)
                stream.write(self._service.get(self._prefix + name, blob, start, size, check=True))

    def stop(self) -> None:
        """End all requests at once."""
        self._service.stop()

    def close(self) -> None:
        """Close all connections, once nothing is under way."""
        self._service.close()
