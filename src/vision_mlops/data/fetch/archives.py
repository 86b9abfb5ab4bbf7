"""Reads untrusted tar and zip archives: every file is checked before anything is written, and memory stays flat.

Nothing is extracted by tarfile or zipfile: they only list and read. Where a file goes is decided elsewhere, from checked
names, so links, devices, owners and modes of an archive never reach the disk.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import stat
import struct
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, Literal, cast

from vision_mlops.core.errors import DataError
from vision_mlops.data.image_files import is_passed_over

Kind = Literal["tar", "gz", "bz2", "xz", "zip"]

MAX_FILES = 2_000_000
_CHUNK = 2**20
_LONGEST_READ = 64 * 2**20  # a header that wants more at once is an attack on memory
_BLOCK = 512
_UTF8_FLAG = 0x800
_UNICODE_PATH = 0x7075
_MAGIC: dict[bytes, Kind] = {
    b"\x1f\x8b": "gz", b"BZh": "bz2", b"\xfd7zXZ\x00": "xz", b"PK\x03\x04": "zip", b"PK\x05\x06": "zip",
}  # fmt: skip
_HINT = "nothing was written; do not trust it, or unpack it by hand in a safe place"


class ArchiveError(DataError):
    """An archive is damaged or dangerous; no setting makes it usable."""


@dataclass(slots=True)
class Budget:
    """How much archives may contain together. ``size`` is in bytes."""

    size: int
    files: int = MAX_FILES

    def spend(self, archive: str, size: int) -> None:
        """Deduct a file.

        Raises:
            DataError: it is too much.
        """
        self.size -= size
        self.files -= 1
        if self.size < 0:
            raise DataError(
                f"{archive}: its content is larger than the limit",
                "it may be an archive bomb; if it is not, raise --max-size, or data.download.max_size of the workload",
            )
        if self.files < 0:
            raise DataError(f"{archive}: has too many files", _HINT)


@dataclass(frozen=True, slots=True)
class ArchiveMember:
    """A regular file of an archive: checked relative name, size in bytes, and its content, to be read before the next.

    ``doubtful`` says that the archive does not state the encoding of the name.
    """

    archive: str
    name: str
    size: int
    _open: Callable[[], IO[bytes]]
    doubtful: bool = False

    def head(self) -> bytes:
        """Return the first megabyte of the content, or all of it. Raises as :meth:`chunks`."""
        with _reading(self.archive), self._open() as stream:
            return stream.read(_CHUNK)

    def chunks(self) -> Iterator[bytes]:
        """Yield the content, piece by piece.

        Raises:
            ArchiveError: the archive is damaged here.
        """
        with _reading(self.archive):
            size = 0
            with self._open() as stream:
                while content := stream.read(_CHUNK):
                    size += len(content)
                    yield content
            if size != self.size:
                raise ArchiveError(f"{self.archive}: {self.name} ends too early", "download it again")


@dataclass(slots=True)
class Names:
    """Names of all files so far; no two may be the same on any file system."""

    _files: set[str] = field(default_factory=set)
    _folders: dict[str, str] = field(default_factory=dict)

    def add(self, archive: str, name: str) -> None:
        """Add a file.

        Raises:
            ArchiveError: the name is taken, also by one that differs in case or in the encoding of accents only.
        """
        folded = _folded(name)
        if folded in self._files or folded in self._folders:
            raise ArchiveError(f"{archive}: {name!r} occurs twice, perhaps in another case", _HINT)
        self._files.add(folded)
        parts = name.split("/")[:-1]
        for count in range(1, len(parts) + 1):
            parent = "/".join(parts[:count])
            folded = _folded(parent)
            if folded in self._files or self._folders.setdefault(folded, parent) != parent:
                raise ArchiveError(f"{archive}: {parent!r} occurs twice, perhaps in another case", _HINT)


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def kind_of(path: Path) -> Kind | None:
    """Detect the kind of an archive by its content, whatever its name; None if it is not an archive."""
    with path.open("rb") as stream:
        head = stream.read(_BLOCK)
    found = next((kind for magic, kind in _MAGIC.items() if head.startswith(magic)), None)
    return found or ("tar" if tarfile.is_tarfile(path) else None)


def entries(path: Path, name: str, budget: Budget, folders: set[str] | None = None) -> Iterator[ArchiveMember]:
    """Yield the regular files of an archive in its own order, without folders and what file browsers add.

    Args:
        path: The archive.
        name: Its name in messages.
        budget: How much it may contain.
        folders: Receives the checked names of the folders that the archive itself lists, as it is read.

    Raises:
        ArchiveError: it is not an archive, is damaged, encrypted or too large, or contains anything but plain files and
            folders with harmless names; the message says which.
    """
    kind = kind_of(path)
    if kind is None:
        raise ArchiveError(
            f"{name}: not an archive: {_looks_like(path)}", "supported are tar, tar.gz, tar.bz2, tar.xz and zip"
        )
    listed = set[str]() if folders is None else folders
    return _of_zip(path, name, budget, listed) if kind == "zip" else _of_tar(path, name, kind, budget, listed)


def _looks_like(path: Path) -> str:
    with path.open("rb") as stream:
        head = stream.read(_BLOCK).lstrip().lower()
    if head.startswith((b"<!doctype html", b"<html")):
        return "it is a web page"
    return "it is empty" if not head else "its first bytes match no known format"


def _unpacked(path: Path, kind: Kind) -> IO[bytes]:
    """Open the content of a compressed tar."""
    openers: dict[Kind, Callable[[Path], object]] = {"gz": gzip.open, "bz2": bz2.open, "xz": lzma.open}
    return cast("IO[bytes]", openers[kind](path) if kind in openers else path.open("rb"))


class _Bounded:
    """A stream that refuses to put more than a bound into memory: names in tar headers are read whole."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.seek = stream.seek
        self.tell = stream.tell
        self.last = b""

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _LONGEST_READ:
            raise tarfile.ReadError(f"a header of {size:,} bytes")
        self.last = self._stream.read(size)
        return self.last


def _of_tar(path: Path, name: str, kind: Kind, budget: Budget, folders: set[str]) -> Iterator[ArchiveMember]:
    with _reading(name), _unpacked(path, kind) as stream:
        bounded = _Bounded(stream)
        # "r:" and not "r": compression is undone by us, so that all reads go through the bound.
        with tarfile.open(fileobj=cast("IO[bytes]", bounded), mode="r:") as archive:
            while (member := archive.next()) is not None:
                archive.members.clear()  # type: ignore[attr-defined]  # it would remember them all
                clean = _checked_name(name, member.name)
                if not (member.isreg() or member.isdir()):
                    raise ArchiveError(f"{name}: {member.name!r} is {_type_of(member)}, not a file", _HINT)
                budget.spend(name, member.size if member.isreg() else 0)
                if member.isdir() and clean is not None:
                    folders.add(clean)
                elif clean is not None:
                    yield ArchiveMember(name, clean, member.size, partial(_content, archive, member))
        # tarfile takes a damaged header for the end; the true one is a block of zeros.
        if bounded.last != bytes(_BLOCK):
            raise tarfile.ReadError("its end marker is missing")
        rest = 0
        while content := stream.read(_CHUNK):  # the checksum of a compressed file is at its end
            rest += len(content)
            if rest > _LONGEST_READ:
                raise tarfile.ReadError("it continues after its end")


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    stream = archive.extractfile(member)
    assert stream is not None, "only of links and folders"
    return stream


def _type_of(member: tarfile.TarInfo) -> str:
    if member.issym() or member.islnk():
        return f"a link to {member.linkname!r}"
    if member.isdev():
        return "a pipe" if member.isfifo() else "a device"
    return "of an unknown type"


def _of_zip(path: Path, name: str, budget: Budget, folders: set[str]) -> Iterator[ArchiveMember]:
    with _reading(name):
        if path.stat().st_size // 46 > MAX_FILES and _directory_size(path) // 46 > MAX_FILES:
            raise ArchiveError(f"{name}: has too many files", _HINT)  # before zipfile reads all of them into memory
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                given, doubtful = _zip_name(member)
                given = given.replace("\\", "/")  # .NET and old PowerShell write names as Windows has them
                clean = _checked_name(name, given)
                if member.flag_bits & 0x1:
                    raise ArchiveError(f"{name}: {member.filename!r} is encrypted", "get an archive without a password")
                mode = member.external_attr >> 16
                if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
                    what = "a link" if stat.S_ISLNK(mode) else "not a file"
                    raise ArchiveError(f"{name}: {member.filename!r} is {what}", _HINT)
                budget.spend(name, member.file_size)
                if clean is None:
                    continue
                if given.endswith("/"):
                    folders.add(clean)
                else:
                    yield ArchiveMember(name, clean, member.file_size, partial(archive.open, member), doubtful)


def _zip_name(member: zipfile.ZipInfo) -> tuple[str, bool]:
    """Return the name of a file in a zip, and whether it is a guess.

    A flag says that it is UTF-8. Without it the name is in whatever encoding the machine had that packed it; then there may
    be a field with the UTF-8 name (APPNOTE.TXT, 4.6.9), and some packers write UTF-8 without saying so.
    """
    name = member.orig_filename
    if member.flag_bits & _UTF8_FLAG or name.isascii():
        return name, False
    raw = name.encode("cp437")  # as zipfile has decoded it
    place = 0
    while place + 4 <= len(member.extra):
        kind, size = struct.unpack_from("<HH", member.extra, place)
        field = member.extra[place + 4 : place + 4 + size]
        if kind == _UNICODE_PATH and field[:5] == b"\1" + struct.pack("<I", zlib.crc32(raw)):
            raw = field[5:]
            break
        place += 4 + size
    try:
        return raw.decode("utf-8"), False
    except UnicodeDecodeError:
        return name, True


def _directory_size(path: Path) -> int:
    """Return the size of a zip's directory in bytes, as its end states it: at least 46 for each file."""
    with path.open("rb") as stream:
        stream.seek(-min(path.stat().st_size, 2**16 + 22), 2)
        tail = stream.read()
    wide, plain = tail.rfind(b"PK\x06\x06"), tail.rfind(b"PK\x05\x06")
    if wide >= 0:
        return int.from_bytes(tail[wide + 40 : wide + 48], "little")
    return int.from_bytes(tail[plain + 12 : plain + 16], "little") if plain >= 0 else 0


def _checked_name(archive: str, name: str) -> str | None:
    """Return the name as a relative path with slashes; None for the top folder, and for what file browsers add."""
    try:
        name.encode()
    except UnicodeEncodeError:
        raise ArchiveError(f"{archive}: the name {name!r} is not UTF-8", _HINT) from None
    parts = [part for part in name.split("/") if part not in ("", ".")]
    bad = next(
        (
            reason
            for reason, found in {
                "is absolute": name.startswith("/") or name[1:2] == ":",
                "leaves its folder": ".." in parts,
                "has a backslash": "\\" in name,
                "has control characters": any(unicodedata.category(sign) == "Cc" for sign in name),
                "is too long": any(len(part.encode()) > 240 for part in parts) or len(name) > 1000,
            }.items()
            if found
        ),
        None,
    )
    if bad is not None:
        raise ArchiveError(f"{archive}: the name {name[:200]!r} {bad}", _HINT)
    return None if any(map(is_passed_over, parts)) else "/".join(parts) or None


@contextmanager
def _reading(archive: str) -> Iterator[None]:
    """Turn the many errors of damaged archives into one."""
    try:
        yield
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, lzma.LZMAError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise _damaged(archive, error) from error
    except (NotImplementedError, RuntimeError) as error:  # of zipfile: a rare compression
        raise ArchiveError(f"{archive}: cannot be read: {error}", "repack it as tar or plain zip") from error
    except OSError as error:
        if error.errno is not None:
            raise
        raise _damaged(archive, error) from error


def _damaged(archive: str, error: Exception) -> ArchiveError:
    return ArchiveError(
        f"{archive}: the archive is damaged or cut off: {error}", "download it again, or get another copy"
    )
