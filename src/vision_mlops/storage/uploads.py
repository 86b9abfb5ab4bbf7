"""Upload of a folder: only files whose content is not there yet are sent, and the container never holds half a file."""

from __future__ import annotations

import mimetypes
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache, partial
from pathlib import Path
from typing import Unpack

from vision_mlops.core.errors import DataError
from vision_mlops.core.hashing import Mark, mark_of
from vision_mlops.storage.attempts import FileError, StorageRetryPolicy, UnsettledError
from vision_mlops.storage.blob_folder import BlobFolder
from vision_mlops.storage.blob_listing import Blob
from vision_mlops.storage.blob_names import check_for_storage
from vision_mlops.storage.file_parts import BlockNames, block_size
from vision_mlops.storage.local_folders import File, look_at, walk
from vision_mlops.storage.md5 import md5
from vision_mlops.storage.service_errors import RefusalError
from vision_mlops.storage.transfer import Transfer, TransferOptions
from vision_mlops.storage.transfer_summary import TransferSummary


def upload(
    folder: Path,
    place: BlobFolder,
    *,
    files: Mapping[str, Path] | None = None,
    create_container: bool = False,
    **options: Unpack[TransferOptions],
) -> TransferSummary:
    """Make a folder in storage hold the files of a folder of this machine.

    Files are compared by MD5. What is there with the same content is not sent again, so a transfer that was
    interrupted for any reason continues where it stopped.

    Args:
        folder: The folder.
        place: Where to; see :func:`~vision_mlops.storage.locations.locate`.
        files: Files to send in place of all that are in the folder, by their names there. They may lie anywhere.
        create_container: Create the container if it does not exist.
        options: How to transfer.

    Returns:
        What was done. ``failures`` names the files that could not be sent; the others were.

    Raises:
        DataError: the folder does not exist, is empty, or has names that are not valid for blobs; nothing was sent.
        RefusalError: the container does not exist or may not be used, or storage cannot be reached.
        KeyboardInterrupt: passed on, after all threads have ended.
    """
    if not folder.is_dir():
        wrong = "is a file, not a folder" if folder.exists() else "does not exist"
        raise DataError(f"{folder} {wrong}", "name the folder that contains the files")
    if (options.get("delete") or options.get("delete_all")) and place.datastore and not place.path:
        raise DataError(
            f"--delete in the root of the datastore {place.datastore!r} would remove files of the workspace",
            "name a path below it",
        )
    summary = TransferSummary("upload", place.url, str(folder))
    with Transfer(summary, place, options) as transfer:
        listing = transfer.list(create_container)
        sent = walk(folder) if files is None else look_at(files)
        if not sent:
            raise DataError(f"{folder} contains no files", "check the path; nothing was transferred or removed")
        check_for_storage(sent, place.prefix)
        transfer.hashes.recall(sent.values())
        there = listing.result()
        extra = {name: blob for name, blob in there.items() if name not in sent}
        transfer.check_removal(extra, len(extra) < len(there))
        _Upload(transfer, sent, there).run()
        if transfer.deletes and summary.ok:
            delete_blobs(transfer, extra)
    return summary


def remove(place: BlobFolder, *, patience: StorageRetryPolicy | None = None) -> TransferSummary:
    """Remove all files of a folder; an empty one is fine.

    Args:
        place: The folder, see :func:`~vision_mlops.storage.locations.locate`; not a container or datastore as a whole.
        patience: How requests are retried.

    Returns:
        What was removed. ``failures`` names the files that are still there.

    Raises:
        DataError: no folder is named.
        RefusalError: the container does not exist or may not be used, or storage cannot be reached.
    """
    if not place.path:
        raise DataError(f"{place.url} cannot be removed as a whole", "name a folder in it")
    summary = TransferSummary("upload", place.url, "")
    with Transfer(summary, place, {"patience": patience}) as transfer:
        delete_blobs(transfer, transfer.list().result())
    return summary


class _Upload:
    """Sends the files that differ."""

    def __init__(self, transfer: Transfer, files: Mapping[str, File], there: Mapping[str, Blob]) -> None:
        self._transfer, self._service = transfer, transfer.service
        self._files, self._there = files, there
        self._dry_run = transfer.summary.dry_run

    def run(self) -> None:
        """Send all files that differ."""
        left = []
        for name, file in self._files.items():
            blob = self._there.get(name)
            known = "" if self._transfer.checksum else self._transfer.hashes.of(file)
            if blob is not None and known and blob.size == file.mark[1] and blob.md5.hex() == known:
                self._transfer.summary.unchanged.add(blob.size)
            else:
                left.append(name)
        self._transfer.work({name: file.mark[1] for name, file in self._files.items()}, left, self._send)

    def _send(self, name: str) -> None:
        path = self._files[name].path
        try:
            self._service.settle(lambda: self._send_once(name, path))
        except FileNotFoundError as error:
            raise FileError("it was removed while the folder was sent; run again") from error
        except OSError as error:
            raise FileError(f"it cannot be read: {error.strerror or error}") from error

    def _send_once(self, name: str, path: str) -> None:
        """Send a file if it has to be sent. If it changes in the meantime, nothing changes in storage."""
        read = time.time_ns()
        with open(path, "rb", buffering=0) as stream:  # noqa: PTH123 - a text, as there are many
            mark = mark_of(os.fstat(stream.fileno()))
            if mark[1] > self._transfer.block:
                digest = self._send_blocks(name, path, stream.fileno(), mark)
            else:
                digest = self._send_whole(name, path, stream.read(mark[1] + 1), mark)
        if digest is not None:
            self._transfer.hashes.note(path, mark, digest.hex(), read)

    def _send_whole(self, name: str, path: str, content: bytes, mark: Mark) -> bytes:
        """Send a small file with one request; returns its MD5."""
        _check_same(path, mark, len(content))
        digest, blob = md5(content).digest(), self._there.get(name)
        if blob is not None and blob.size == len(content) and blob.md5 == digest:
            self._transfer.count(self._transfer.summary.unchanged, len(content))
            return digest
        if not self._dry_run:
            with self._contested(name, len(content), digest):
                self._service.put(self._full(name), content, digest, content_type(name), blob)
        self._transfer.count(self._transfer.summary.transferred, len(content))
        return digest

    def _send_blocks(self, name: str, path: str, descriptor: int, mark: Mark) -> bytes | None:
        """Send a large file; returns its MD5, None if it was not read."""
        size, blob, digest = mark[1], self._there.get(name), None
        length = block_size(size, self._transfer.block)
        if blob is not None and blob.size == size and blob.md5:
            whole = md5()
            for start in range(0, size, length):
                whole.update(os.pread(descriptor, length, start))
                self._service.rest(0)
            if whole.digest() == blob.md5 and mark_of(os.stat(path)) == mark:  # noqa: PTH116
                self._transfer.count(self._transfer.summary.unchanged, size)
                return blob.md5
        if not self._dry_run:
            with self._transfer.moving() as moved:
                blocks, digest = self._send_parts(self._full(name), descriptor, size, length, moved)
                _check_same(path, mark)
                with self._contested(name, size, digest):
                    self._service.commit(self._full(name), blocks, digest, content_type(name), blob)
        self._transfer.count(self._transfer.summary.transferred, size)
        return digest

    def _send_parts(
        self, name: str, descriptor: int, size: int, length: int, moved: Callable[[int], None]
    ) -> tuple[list[str], bytes]:
        """Send the blocks that are not there; their names say what is in them, so those of an interrupted transfer are used.

        Returns:
            Names of all blocks, and the MD5 of all bytes that were read.
        """
        whole, there, blocks = md5(), self._service.blocks(name), list[str]()
        names = BlockNames(there)

        def put(block: str, content: bytes, digest: bytes) -> None:
            self._service.put_block(name, block, content, digest)
            moved(len(content))

        with self._transfer.pool.parts() as parts:
            for index, start in enumerate(range(0, size, length)):
                self._service.rest(0)
                content = os.pread(descriptor, length, start)
                whole.update(content)
                digest = md5(content).digest()
                blocks.append(names.name(index, digest))
                if names.tell_content and there.get(blocks[-1]) == len(content):
                    moved(len(content))
                else:
                    parts.add(partial(put, blocks[-1], content, digest))
        return blocks, whole.digest()

    def _full(self, name: str) -> str:
        return self._service.place.prefix + name

    @contextmanager
    def _contested(self, name: str, size: int, digest: bytes) -> Iterator[None]:
        """Tell what a refused condition means: the response to our own request was lost, or somebody else was faster."""
        try:
            yield
        except RefusalError as error:
            if error.code not in ("BlobAlreadyExists", "ConditionNotMet"):
                raise
            now = self._service.find(self._full(name))
            if now is None or (now.size, now.md5) != (size, digest):
                raise FileError(
                    "somebody else changed it in storage in the meantime; run again to replace it"
                ) from error


def _check_same(path: str, mark: Mark, size: int | None = None) -> None:
    """Raise UnsettledError if a file was changed since it was opened, or so many bytes are not all of it."""
    if size not in (None, mark[1]) or mark_of(os.stat(path)) != mark:  # noqa: PTH116
        raise UnsettledError("it changed while it was read; run again when nothing writes to it")


def delete_blobs(transfer: Transfer, extra: Mapping[str, Blob]) -> None:
    """Delete some of the blobs in the folder, and count them in the summary."""
    summary, prefix = transfer.summary, transfer.service.place.prefix
    summary.to_delete = sorted(extra)

    def delete(name: str) -> None:
        transfer.service.delete(prefix + name, extra[name])
        transfer.count(summary.deleted, extra[name].size)

    if not summary.dry_run:
        transfer.work({name: blob.size for name, blob in extra.items()}, list(extra), delete)


@lru_cache(maxsize=1024)
def _type_of(ending: str) -> str:
    return mimetypes.guess_type(f"name{ending}")[0] or "application/octet-stream"


def content_type(name: str) -> str:
    """Return the Content-Type for a name by its suffix."""
    return _type_of(os.path.splitext(name)[1].lower())  # noqa: PTH122
