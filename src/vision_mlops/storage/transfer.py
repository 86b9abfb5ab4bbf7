"""What uploads and downloads share: the threads, the count of what was done, and what the failure of one file means."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from types import TracebackType
from typing import TypedDict

from vision_mlops.core.errors import DataError
from vision_mlops.core.text import counted
from vision_mlops.storage.attempts import FileError, StorageRetryPolicy
from vision_mlops.storage.blob_folder import BlobFolder
from vision_mlops.storage.blob_listing import Blob
from vision_mlops.storage.blob_service import BLOCK, BlobService
from vision_mlops.storage.md5 import Hashes
from vision_mlops.storage.service_errors import RefusalError
from vision_mlops.storage.thread_pool import ThreadPool
from vision_mlops.storage.transfer_summary import Count, Progress, TransferSummary

JOBS = 16
"""Requests at once: more gain nothing if the account is near, and as many are needed if it is not."""

SAVE_SECONDS = 10.0


class TransferOptions(TypedDict, total=False):
    """What uploads and downloads can be told.

    Attributes:
        delete: Remove files at the destination that are not in the source, once all else has succeeded.
        delete_all: The same, even if no file would be left.
        checksum: Read all files, instead of trusting size and time of those that were read before.
        dry_run: Only report what would be done.
        jobs: Requests at once; by default :data:`JOBS`.
        progress: Called in the thread of the caller with how much is done.
        patience: How requests are retried.
        block: Larger files go in parts of so many bytes, by default :data:`~vision_mlops.storage.blob_service.BLOCK`; that
            is also the most for a download.
    """

    delete: bool
    delete_all: bool
    checksum: bool
    dry_run: bool
    jobs: int | None
    progress: Progress | None
    patience: StorageRetryPolicy | None
    block: int


class Transfer:
    """One upload or download. Use it as a context manager, so that no thread or connection is left behind.

    Args:
        summary: Filled in.
        place: The folder in storage.
        options: How to transfer.
    """

    def __init__(self, summary: TransferSummary, place: BlobFolder, options: TransferOptions) -> None:
        jobs = options.get("jobs")
        if jobs is not None and not 1 <= jobs <= 256:
            raise DataError(f"invalid number of requests at once: {jobs}", "choose 1 to 256")
        self.summary = summary
        summary.dry_run = options.get("dry_run", False)
        self.block = options.get("block", BLOCK)
        self.checksum = options.get("checksum", False)
        self.deletes = options.get("delete", False) or options.get("delete_all", False)
        self.service = BlobService(place, options.get("patience"))
        self.hashes = Hashes()
        self.pool: ThreadPool[str] = ThreadPool(jobs or JOBS, self.service.stop)
        self._delete_all = options.get("delete_all", False)
        self._progress = options.get("progress")
        self._lock = threading.Lock()
        self._begun = time.monotonic()
        self._saved = self._begun
        self._total = Count()
        self._moved = 0
        self._background = ThreadPoolExecutor(1, "listing")

    def __enter__(self) -> Transfer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.summary.seconds = time.monotonic() - self._begun
        if error is not None:
            self.service.stop()
        self._background.shutdown()
        self.service.close()
        self.hashes.close()

    def list(self, create_container: bool = False) -> Future[dict[str, Blob]]:
        """Begin to list the folder in storage, while something else is done: blobs by relative name, without clutter.

        Args:
            create_container: Create the container if it does not exist.
        """
        return self._background.submit(self._list, create_container)

    def _list(self, create_container: bool) -> dict[str, Blob]:
        try:
            return dict(self.service.files())
        except RefusalError as error:
            if error.code != "ContainerNotFound" or not create_container:
                raise
        if not self.summary.dry_run:
            self.service.create_container()
        return {}

    def work(self, sizes: Mapping[str, int], names: Iterable[str], work: Callable[[str], None]) -> None:
        """Do the work for each name, in threads; a file that fails does not stop the others.

        Args:
            sizes: Bytes of all files, including those that are done already.
            names: What is left to do.
            work: Transfers one; raises FileError, RefusalError or OSError if it cannot.

        Raises:
            RefusalError: all other files would be refused, too.
        """
        self._total = Count(len(sizes), sum(sizes.values()))

        def guarded(name: str) -> None:
            try:
                work(name)
            except FileError as error:
                self.fail(name, sizes.get(name, 0), str(error))
            except RefusalError as error:
                if error.transient:
                    self.service.require()  # raises an error if it is not about this file
                if error.fatal:
                    raise
                reason = error.message.removeprefix(f"{self.service.place.prefix}{name}: ")
                self.fail(name, sizes.get(name, 0), reason + (f"; {error.hint}" if error.hint else ""))

        self.pool.run(names, guarded, self._tick)
        self._tick()

    def count(self, what: Count, size: int) -> None:
        """Count one more file that was transferred, unchanged or deleted."""
        with self._lock:
            what.add(size)

    @contextmanager
    def moving(self) -> Iterator[Callable[[int], None]]:
        """Count the bytes of one file as its parts are transferred; at the end they no longer count, as the file does."""
        sizes: list[int] = []

        def moved(size: int) -> None:
            with self._lock:
                sizes.append(size)
                self._moved += size

        try:
            yield moved
        finally:
            with self._lock:
                self._moved -= sum(sizes)

    def fail(self, name: str, size: int, reason: str) -> None:
        """Record that a file was not transferred."""
        with self._lock:
            self.summary.failed.add(size)
            self.summary.failures[name] = reason

    def check_removal(self, extra: Mapping[str, Blob] | Mapping[str, int], kept: bool) -> None:
        """Refuse to remove everything.

        Args:
            extra: What is not in the source.
            kept: Whether anything would be left.

        Raises:
            DataError: nothing would be left, and that is not intended.
        """
        if self.deletes and extra and not kept and not self._delete_all:
            side = self.summary.place if self.summary.direction == "upload" else self.summary.folder
            raise DataError(
                f"--delete would remove everything that is in {side} ({counted(len(extra), 'file')}):"
                " no file there is in the source",
                "check both sides; if that is intended, use --delete-all",
            )

    def _tick(self) -> None:
        now = time.monotonic()
        if now - self._saved > SAVE_SECONDS:  # kill -9 loses little
            self._saved = now
            self.hashes.save()
        if self._progress is not None:
            with self._lock:
                done = [self.summary.transferred, self.summary.unchanged, self.summary.failed]
                files, size = sum(count.files for count in done), sum(count.bytes for count in done) + self._moved
            self._progress(files, self._total.files, min(size, self._total.bytes), self._total.bytes)
