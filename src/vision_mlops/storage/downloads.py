"""Download of a folder: only what differs, each file complete or left as it was, and nothing outside of the target."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Unpack

from vision_mlops.core import locks
from vision_mlops.core.errors import DataError
from vision_mlops.core.hashing import mark_of
from vision_mlops.storage.attempts import FileError, UnsettledError
from vision_mlops.storage.blob_folder import BlobFolder
from vision_mlops.storage.blob_listing import Blob
from vision_mlops.storage.blob_names import check_for_folder
from vision_mlops.storage.blob_service import BLOCK
from vision_mlops.storage.file_parts import PartialFile
from vision_mlops.storage.local_folders import File, walk
from vision_mlops.storage.md5 import Hashes, md5
from vision_mlops.storage.transfer import Transfer, TransferOptions
from vision_mlops.storage.transfer_summary import TransferSummary

_DAMAGED = "the content that was received does not match the MD5 that storage keeps; upload it again"
_WORK = ".mlops-download"
# What would happen to every other file as well.
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})


def download(place: BlobFolder, out: Path, **options: Unpack[TransferOptions]) -> TransferSummary:
    """Make a folder of this machine hold the files of a folder in storage; the mirror of ``upload``.

    A file is written beside its place, compared with the MD5 that storage keeps, and only then moved there.

    Args:
        place: Where from; see :func:`~vision_mlops.storage.locations.locate`.
        out: The folder; created if it does not exist.
        options: How to transfer.

    Returns:
        What was done. ``failures`` names the files that could not be fetched; the others were.

    Raises:
        DataError: there is nothing in storage, or names that are not valid for files; nothing was written.
        RefusalError: the container does not exist or may not be used, or storage cannot be reached.
        OSError: the target cannot be written, or there is no space.
        KeyboardInterrupt: passed on, after all threads have ended.
    """
    if out.exists() and not out.is_dir():
        raise DataError(f"{out} is a file, not a folder", "choose another folder with --out")
    summary = TransferSummary("download", place.url, str(out))
    options["block"] = min(options.get("block", BLOCK), BLOCK)
    with ExitStack() as stack, Transfer(summary, place, options) as transfer:
        blobs = transfer.list().result()
        if not blobs:
            raise DataError(f"{place.url} contains no files", "check the path; nothing was written or removed")
        check_for_folder(list(blobs))
        files = walk(out, lenient=True) if out.exists() else {}
        extra = {
            name: file.mark[1]
            for name, file in files.items()
            if name not in blobs and not any(folder.is_symlink() for folder in _folders(out, name))
        }
        transfer.check_removal(extra, len(extra) < len(files))
        if not summary.dry_run:
            out.mkdir(parents=True, exist_ok=True)
            refusal = DataError(
                f"another download into {out} is running", "wait for it, or choose another folder with --out"
            )
            stack.enter_context(locks.locked(out / _WORK / "lock", refusal))
            stack.callback(_leave, out / _WORK)
        transfer.hashes.recall(files.values())
        etags = Hashes("blob_etag")
        stack.callback(etags.close)
        _Download(transfer, out, blobs, files, etags).run()
        if transfer.deletes and summary.ok:
            _delete(summary, out, extra)
    return summary


class _Download:
    """Fetches the files that differ."""

    def __init__(
        self,
        transfer: Transfer,
        out: Path,
        blobs: Mapping[str, Blob],
        files: Mapping[str, File],
        etags: Hashes,
    ) -> None:
        self._transfer, self._service = transfer, transfer.service
        self._out, self._root = out, os.path.realpath(out)
        self._blobs, self._files, self._etags = blobs, files, etags
        self._dry_run = transfer.summary.dry_run
        self._lock = threading.Lock()
        self._folders: set[str] = set()

    def run(self) -> None:
        """Fetch all files that differ."""
        self._etags.recall(
            self._files[name] for name, blob in self._blobs.items() if not blob.md5 and name in self._files
        )
        if not self._dry_run:
            self._tidy()
        left = [name for name in self._blobs if not self._is_known(name)]
        self._transfer.work({name: blob.size for name, blob in self._blobs.items()}, left, self._fetch)

    def _tidy(self) -> None:
        """Remove what an interrupted download left, except parts of blobs that are still the same."""
        wanted = {self._part_name(name, blob) for name, blob in self._blobs.items() if blob.size > self._transfer.block}
        for path in (self._out / _WORK).iterdir():
            if path.name != "lock" and path.name.partition(".")[0] not in wanted:
                path.unlink()

    def _is_known(self, name: str) -> bool:
        """Return whether a file is known to be what is in storage, and count it if so."""
        blob, file = self._blobs[name], self._files.get(name)
        if file is None or file.mark[1] != blob.size or self._transfer.checksum:
            return False
        if blob.md5:
            same = self._transfer.hashes.of(file) == blob.md5.hex()
        else:
            same = self._etags.of(file) == self._version(name, blob)
        if same:
            self._transfer.summary.unchanged.add(blob.size)
        return same

    def _fetch(self, name: str) -> None:
        blob, file = self._blobs[name], self._files.get(name)
        try:
            if file is not None and blob.md5 and file.mark[1] == blob.size and self._has_content(file, blob.md5):
                self._transfer.count(self._transfer.summary.unchanged, blob.size)
                return
            if not self._dry_run:
                self._fetch_now(name, blob)
            self._transfer.count(self._transfer.summary.transferred, blob.size)
        except OSError as error:
            if error.errno in _NO_ROOM:
                raise
            raise FileError(f"it cannot be read or written: {error.strerror or error}") from error

    def _has_content(self, file: File, wanted: bytes) -> bool:
        """Read a file, remember its MD5, and return whether it is the given one."""
        read = time.time_ns()
        with open(file.path, "rb") as stream:  # noqa: PTH123
            digest = hashlib.file_digest(stream, md5)
            mark = mark_of(os.fstat(stream.fileno()))
        self._service.rest(0)
        if mark == file.mark:
            self._transfer.hashes.note(file.path, mark, digest.hexdigest(), read)
        return digest.digest() == wanted

    def _fetch_now(self, name: str, blob: Blob) -> None:
        target = self._target(name)

        def read(newest: Blob) -> None:
            self._settle(name, newest, self._temporary(name, newest), target)

        self._service.read(self._service.place.prefix + name, blob, read)

    def _temporary(self, name: str, blob: Blob) -> Path:
        """Write the content to a file of its own. Raises UnsettledError if it does not match its MD5."""
        if blob.size > self._transfer.block:
            parts = PartialFile(self._out / _WORK / self._part_name(name, blob), blob.size, self._transfer.block)
            self._fetch_parts(name, blob, parts)
            return parts.path
        full = self._service.place.prefix + name
        if blob.md5 or not blob.size:
            content = self._service.get(full, blob)
            if blob.md5 and md5(content).digest() != blob.md5:
                raise UnsettledError(_DAMAGED)
        else:  # nobody stored an MD5: the service makes one of what it sends
            content = self._service.get(full, blob, 0, blob.size, check=True)
        temporary = self._out / _WORK / f"{threading.get_ident()}.new"
        with open(temporary, "wb", buffering=0) as stream:  # noqa: PTH123
            stream.write(content)
        return temporary

    def _fetch_parts(self, name: str, blob: Blob, partial_file: PartialFile) -> None:
        full = self._service.place.prefix + name

        def fetch(index: int, start: int, size: int) -> None:
            content = self._service.get(full, blob, start, size, check=not blob.md5)
            partial_file.write(index, start, content)
            moved(size)

        with partial_file:
            with self._transfer.moving() as moved, self._transfer.pool.parts() as parts:
                for part in partial_file.missing():
                    self._service.rest(0)
                    parts.add(partial(fetch, *part))
            if blob.md5 and partial_file.md5() != blob.md5:
                partial_file.forget()
                raise UnsettledError(_DAMAGED)
        partial_file.remove_journal()

    def _settle(self, name: str, blob: Blob, temporary: Path, target: str) -> None:
        """Move a whole file to its place."""
        os.replace(temporary, target)  # noqa: PTH105
        mark = mark_of(os.stat(target, follow_symlinks=False))  # noqa: PTH116
        if blob.md5:
            self._transfer.hashes.note(target, mark, blob.md5.hex())
        else:
            self._etags.note(target, mark, self._version(name, blob))

    def _target(self, name: str) -> str:
        """Return the absolute path of a file. Its folder is created, and may not be outside of the target through a link."""
        folder = name.rpartition("/")[0]
        parent = os.path.join(self._root, folder) if folder else self._root  # noqa: PTH118
        with self._lock:
            if parent not in self._folders:
                # What exists of the way there is looked at before something is made in it.
                if not f"{os.path.realpath(parent)}/".startswith(f"{self._root.rstrip('/')}/"):
                    raise FileError(f"{folder!r} is a link to a place outside of {self._out}")
                os.makedirs(parent, exist_ok=True)  # noqa: PTH103
                self._folders.add(parent)
        target = os.path.join(os.path.abspath(self._out), name)  # noqa: PTH100, PTH118
        if os.path.isdir(target) and not os.path.islink(target):  # noqa: PTH112, PTH114
            raise FileError("a folder of this name exists here; remove it")
        return target

    def _part_name(self, name: str, blob: Blob) -> str:
        return hashlib.sha256(self._version(name, blob).encode()).hexdigest()[:40]

    def _version(self, name: str, blob: Blob) -> str:
        """Names a blob and its version."""
        return f"{self._service.place.url}\n{name}\n{blob.etag}"


def _leave(work: Path) -> None:
    """Remove the working folder, except parts of incomplete large files: the next download continues with them."""
    for path in work.iterdir():
        if path.suffix == ".new" or path.name == "lock":
            path.unlink()
    with contextlib.suppress(OSError):  # parts are left
        work.rmdir()


def _delete(summary: TransferSummary, out: Path, extra: Mapping[str, int]) -> None:
    """Remove files that are not in storage, and folders that are empty then."""
    summary.to_delete = sorted(extra)
    if summary.dry_run:
        return
    folders: set[Path] = set()
    for name in summary.to_delete:
        (out / name).unlink(missing_ok=True)
        summary.deleted.add(extra[name])
        folders.update(_folders(out, name))
    for folder in sorted(folders, key=lambda path: len(path.parts), reverse=True):
        if not any(folder.iterdir()):
            folder.rmdir()


def _folders(out: Path, name: str) -> list[Path]:
    """Return the folders between the target and a file of it."""
    return [out / folder for folder in PurePosixPath(name).parents[:-1]]
