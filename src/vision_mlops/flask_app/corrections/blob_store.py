"""Corrections in Blob Storage: a blob for each image, and a small JSON blob for each correction.

Each is written with one request, on the condition that nothing else has changed it; so several instances may add at once.
The image comes first: an instance that is killed in between leaves an image that no correction names, which does no harm.
The limit is checked before, not during: instances that add at the same moment may exceed it by what they add.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace

from vision_mlops.core.errors import DataError
from vision_mlops.flask_app.corrections.correction import Correction, check_image, check_room
from vision_mlops.storage import BlobFolder
from vision_mlops.storage.attempts import StorageRetryPolicy
from vision_mlops.storage.blob_listing import Blob
from vision_mlops.storage.blob_service import BlobService
from vision_mlops.storage.md5 import md5
from vision_mlops.storage.service_errors import RefusalError

_PATIENCE = StorageRetryPolicy(attempts=4, first=0.2, longest=2.0, silence=10.0)  # somebody waits for the page
_RECORDS = "records/"
_IMAGES = "images/"
_AT_ONCE = 16
_JSON = "application/json"
_BINARY = "application/octet-stream"  # opened in a browser, an image of a stranger is not shown


class BlobStore:
    """The corrections of a folder in storage. Threads share it.

    Args:
        place: Folder of the corrections.
        limit_bytes: Maximum size of the folder.
        patience: How often and how long requests are tried.
    """

    def __init__(self, place: BlobFolder, limit_bytes: int, patience: StorageRetryPolicy = _PATIENCE) -> None:
        self._place = place
        self._limit = limit_bytes
        self._service = BlobService(place, patience)

    def add(self, correction: Correction, image: bytes) -> None:
        """Keep a correction, as :meth:`CorrectionStore.add` says."""
        check_image(correction, image)
        name = self._record(correction.id)
        while (there := self._service.find(name)) is not None:
            if self._renewed(name, there, correction):
                return
        content = json.dumps(asdict(correction)).encode()
        sizes = {blob: facts.size for blob, facts in self._service.blobs()}
        image_blob = self._image(correction)
        more = len(content) + (0 if image_blob in sizes else len(image))
        check_room(self._place.url, sum(sizes.values()), more, self._limit)
        if image_blob not in sizes:
            self._create(image_blob, image, _BINARY)
        if not self._create(name, content, _JSON):
            self.add(correction, image)  # another instance was first

    def list(self) -> Iterator[Correction]:
        """Yield all corrections, as :meth:`CorrectionStore.list` says."""
        start = self._place.prefix + _RECORDS
        found = [(name, blob) for name, blob in self._service.blobs() if name.startswith(start)]
        if not found:
            raise DataError(
                f"{self._place.url} has no corrections",
                "give the address that MLOPS_APP_CORRECTIONS names where the web frontend runs",
            )
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            corrections = list(pool.map(lambda item: self._read(*item), found))
        yield from sorted(corrections, key=lambda item: (item.at, item.id))

    def image(self, correction: Correction) -> bytes:
        """Return the image of a correction, as :meth:`CorrectionStore.image` says."""
        name = self._image(correction)
        blob = self._service.find(name)
        if blob is None:
            raise DataError(f"{self._place.url} has no image {correction.image_name}")
        image = self._service.get(name, blob)
        try:
            check_image(correction, image)
        except ValueError as error:
            raise DataError(f"{self._place.url}: {correction.image_name} was changed after it was received") from error
        return image

    def size_bytes(self) -> int:
        """Return the size of all blobs of the folder."""
        return sum(blob.size for _, blob in self._service.blobs())

    def close(self) -> None:
        """Close all connections."""
        self._service.close()

    def _record(self, id_: str) -> str:
        return f"{self._place.prefix}{_RECORDS}{id_}.json"

    def _image(self, correction: Correction) -> str:
        return f"{self._place.prefix}{_IMAGES}{correction.image_name}"

    def _create(self, name: str, content: bytes, kind: str) -> bool:
        """Write a blob unless it exists; return whether it was written."""
        try:
            self._service.put(name, content, md5(content).digest(), kind, None)
        except RefusalError as error:
            if error.code != "BlobAlreadyExists":
                raise
            return False
        return True

    def _renewed(self, name: str, there: Blob, correction: Correction) -> bool:
        """Give a correction that exists the later time; return whether nobody else changed it."""
        try:
            known = self._read(name, there)
            if correction.at > known.at:
                content = json.dumps(asdict(replace(known, at=correction.at))).encode()
                self._service.put(name, content, md5(content).digest(), _JSON, there)
        except RefusalError as error:
            if error.code not in ("ConditionNotMet", "BlobNotFound"):
                raise
            return False
        return True

    def _read(self, name: str, blob: Blob) -> Correction:
        content = self._service.get(name, blob)
        try:
            return Correction(**json.loads(content))
        except (ValueError, TypeError) as error:
            raise DataError(f"{self._place.url}: {name} is not a correction: {error}", "remove it") from error
