"""Images in Blob Storage, fetched while others are scored; how much is on disk at once is bounded."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path, PurePosixPath

from vision_mlops.batch.image_sources import FetchedImage, Images, ListedImage, Skipped
from vision_mlops.batch.prediction_rows import MAX_BYTES, Failed, too_large
from vision_mlops.data.image_files import claims_to_be_image, is_documentation, is_hidden, on_one_line
from vision_mlops.storage import BlobFolder
from vision_mlops.storage.attempts import FileError, StorageRetryPolicy
from vision_mlops.storage.blob_listing import Blob
from vision_mlops.storage.blob_service import BlobService
from vision_mlops.storage.transfer import JOBS

_AHEAD = 4 * JOBS
_AHEAD_BYTES = 256 * 2**20


class BlobImages(Images):
    """A folder in a container.

    Args:
        place: The folder.
        patience: How long requests are tried.
    """

    def __init__(self, place: BlobFolder, patience: StorageRetryPolicy | None = None) -> None:
        self._storage = BlobService(place, patience)
        self._pool: ThreadPoolExecutor | None = None
        self.address = place.url
        self.skipped = Skipped()

    def listing(self) -> Iterator[ListedImage]:
        """Yield all images, in the order of their names. Raises RefusalError."""
        self.skipped = Skipped()
        for name, blob in self._storage.files():
            if is_hidden(name) or is_documentation(name):
                continue
            # What has no suffix may be an image; it is fetched, and its content decides.
            if claims_to_be_image(name) or not PurePosixPath(name).suffix:
                yield ListedImage(name.encode(), blob.size, blob.etag)
            else:
                self.skipped.add(f"{on_one_line(name)}: its suffix is not that of an image")

    def fetch(self, wanted: Iterable[ListedImage], folder: Path) -> Generator[FetchedImage]:
        """Fetch images into ``folder``, ahead of what is asked for: at most 64 of them, or 256 MB and one.

        Raises:
            RefusalError: storage cannot be reached any more, or refuses our requests.
        """
        self._pool = ThreadPoolExecutor(JOBS, "fetching")
        waiting: deque[tuple[ListedImage, Future[FetchedImage]]] = deque()
        size = 0
        left = enumerate(wanted)
        following = next(left, None)
        while waiting or following:
            while following and len(waiting) < _AHEAD and (not waiting or size + following[1].size < _AHEAD_BYTES):
                number, listed = following
                waiting.append((listed, self._pool.submit(self._fetch, listed, folder / str(number))))
                size += listed.size
                following = next(left, None)
            listed, future = waiting.popleft()
            size -= listed.size
            yield future.result()

    def _fetch(self, listed: ListedImage, target: Path) -> FetchedImage:
        if listed.size > MAX_BYTES:
            return FetchedImage(listed, target, too_large(listed.name, listed.size))
        try:
            self._storage.fetch(listed.key.decode(), Blob(listed.size, b"", listed.version), target)
        except FileError as error:
            target.unlink(missing_ok=True)
            return FetchedImage(listed, target, Failed("unreadable", f"{listed.name}: {error}"))
        return FetchedImage(listed, target)

    def release(self, fetched: FetchedImage) -> None:
        """Remove the file of an image."""
        fetched.path.unlink()

    def close(self) -> None:
        """Cancel the transfers under way, and close all connections."""
        if self._pool is not None:
            self._storage.stop()
            self._pool.shutdown(cancel_futures=True)
        self._storage.close()
