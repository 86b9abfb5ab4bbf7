"""Verifies a download: announced and real size, the checksum, and that the disk has room."""

from __future__ import annotations

import errno
import shutil
from dataclasses import dataclass
from pathlib import Path

from vision_mlops.core.errors import DataError, DownloadError
from vision_mlops.core.hashing import file_hash
from vision_mlops.data.fetch.http_responses import shown
from vision_mlops.data.fetch.partial_file import Part

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""Errors of a write that freeing space fixes."""


@dataclass(frozen=True, slots=True)
class ExpectedFile:
    """A file to download. ``size`` in bytes and ``sha256`` are verified if given; ``limit`` is the most it may have."""

    url: str
    size: int | None = None
    sha256: str | None = None
    limit: int | None = None


def check_length(wanted: ExpectedFile, length: int | None) -> None:
    """Compare the announced length with what is wanted, before the first byte."""
    if length is None:
        return
    if wanted.size is not None and length != wanted.size:
        raise DownloadError(
            f"{shown(wanted.url)}: expected {wanted.size:,} bytes, the server has {length:,}",
            "the file has changed: check the address, or correct the size and checksum",
            200,
        )
    if wanted.limit is not None and length > wanted.limit:
        raise too_long(wanted, f"{length:,}", 200)


def too_long(wanted: ExpectedFile, found: str, status: int) -> DownloadError:
    """Describe that more arrives than is wanted or allowed."""
    bound = f"expected {wanted.size:,}" if wanted.size is not None else f"at most {wanted.limit or 0:,}"
    return DownloadError(f"{shown(wanted.url)}: {bound} bytes, got {found}", "check the address", status)


def check_space(target: Path, needed: int) -> None:
    """Refuse what does not fit on the disk, before the disk is full.

    Args:
        target: File or folder to write; need not exist.
        needed: Bytes.

    Raises:
        DataError: less is free.
    """
    folder = next(parent for parent in target.parents if parent.exists())
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise DataError(
            f"{folder}: {target.name} needs {needed:,} bytes, {free:,} are free", "free space, or choose another place"
        )


def not_written(part: Part, error: OSError, total: int | None, kept: bool) -> DataError:
    """Describe the error of a write; ``kept`` says whether another try continues from here."""
    if error.errno not in FULL:
        return DataError(f"{part.path} cannot be written: {error.strerror}", "check its permissions and the disk")
    of = f" of {total:,}" if total is not None else ""
    hint = "free space, and run the same command to continue" if kept else "free space, and try again"
    return DataError(f"{part.path}: {error.strerror}; {part.size:,}{of} bytes are there", hint)


def verify(wanted: ExpectedFile, part: Part) -> None:
    """Compare the download with what was wanted; a wrong one is removed.

    Raises:
        DownloadError: says what was expected and what came.
    """
    if wanted.size is not None and part.size != wanted.size:
        found = part.size
        part.discard()
        raise DownloadError(
            f"{shown(wanted.url)}: expected {wanted.size:,} bytes, got {found:,}",
            "try again; what was downloaded is removed",
            200,
        )
    if wanted.sha256 is None:
        return
    found_hash = file_hash(part.path)
    if found_hash != wanted.sha256:
        part.discard()
        raise DownloadError(
            f"{shown(wanted.url)}: expected sha256 {wanted.sha256}, got {found_hash}",
            "the download was removed; try again, or check the address and the checksum",
            200,
        )
