"""Where corrections are kept: a folder, or Blob Storage, behind one protocol."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from vision_mlops.core.errors import ConfigError
from vision_mlops.core.text import is_address
from vision_mlops.flask_app.corrections.correction import Correction


class CorrectionStore(Protocol):
    """Keeps corrections with their images. Threads and processes may use one place at once."""

    def add(self, correction: Correction, image: bytes) -> None:
        """Keep a correction. One of the same id is not kept twice; the later time counts.

        Args:
            correction: What was said.
            image: The bytes whose sha256 it has; kept as they are, once for all corrections of them.

        Raises:
            CorrectionsFullError: the limit would be exceeded; nothing is kept then.
            DataError, AzureError: the place cannot be written.
        """

    def list(self) -> Iterator[Correction]:
        """Yield all corrections, the earliest first.

        Raises:
            DataError, AzureError: there are no corrections at this place, or it cannot be read.
        """

    def image(self, correction: Correction) -> bytes:
        """Return the image of a correction, as it was received.

        Raises:
            DataError: it is missing, or is not what was received.
            AzureError: storage cannot be reached.
        """

    def size_bytes(self) -> int:
        """Return how many bytes the images and records take."""

    def close(self) -> None:
        """Close connections, where there are some."""


def open_store(location: str, limit_bytes: int = 0) -> CorrectionStore:
    """Open the place where corrections are kept. Nothing is made there before the first one is added.

    Args:
        location: Folder, or address in Blob Storage as ``mlops data upload --to`` takes it.
        limit_bytes: Maximum size; 0 if it is only read.

    Raises:
        ConfigError: the address, or what signs in to it, is malformed; the folder cannot be made or written to.
    """
    if not location:
        raise ConfigError("no location of corrections is given", "name a folder or an address in Blob Storage")
    if is_address(location) or location.startswith("datastore:"):
        from vision_mlops.flask_app.corrections.blob_store import BlobStore
        from vision_mlops.storage import locate

        return BlobStore(locate(location), limit_bytes)
    from vision_mlops.flask_app.corrections.folder_store import FolderStore

    folder = Path(location).expanduser().absolute()
    if limit_bytes:
        _check_writable(folder)
    return FolderStore(folder, limit_bytes)


def _check_writable(folder: Path) -> None:
    there = next(place for place in (folder, *folder.parents) if os.path.lexists(place))
    effective = os.access in os.supports_effective_ids
    if not (there.is_dir() and os.access(there, os.W_OK, effective_ids=effective)):
        raise ConfigError(
            f"corrections cannot be stored in {str(folder)!r}: {str(there)!r} is not a writable folder",
            "name a folder, or an address in Blob Storage",
        )
