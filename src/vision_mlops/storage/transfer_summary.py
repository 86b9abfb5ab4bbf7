"""The result of a transfer: files and bytes by what was done with them, and the reason for each failure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from vision_mlops.core.text import counted

Progress = Callable[[int, int, int, int], None]
"""Called several times a second with files done, all files, bytes done and all bytes, in the calling thread."""


@dataclass
class Count:
    """A number of files and the bytes in them."""

    files: int = 0
    bytes: int = 0

    def add(self, size: int) -> None:
        """Count one more file."""
        self.files += 1
        self.bytes += size


@dataclass
class TransferSummary:
    """What was done, or would be done with ``dry_run``.

    Attributes:
        direction: Which way.
        place: Address of the folder in storage, without a signature.
        folder: The folder on this machine.
        transferred: Files that were uploaded or downloaded.
        unchanged: Files that were there already, with the same content.
        deleted: Files that were removed at the destination, because they are not in the source.
        failed: Files that could not be transferred or removed after all attempts.
        failures: Reason for each of these, by its name relative to the folder.
        to_delete: Names of the files that are removed, or would be.
        seconds: How long it took.
        dry_run: Nothing was changed.
    """

    direction: Literal["upload", "download"]
    place: str
    folder: str
    transferred: Count = field(default_factory=Count)
    unchanged: Count = field(default_factory=Count)
    deleted: Count = field(default_factory=Count)
    failed: Count = field(default_factory=Count)
    failures: dict[str, str] = field(default_factory=dict)
    to_delete: list[str] = field(default_factory=list)
    seconds: float = 0.0
    dry_run: bool = False

    @property
    def ok(self) -> bool:
        """Whether both sides have the same files now."""
        return not self.failures

    @property
    def megabytes_per_second(self) -> float:
        """Transfer rate in 10^6 bytes per second."""
        return self.transferred.bytes / 1e6 / self.seconds if self.seconds > 0 else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form, as ``--json`` prints it."""
        counts = {
            f"{self.direction}ed": self.transferred,
            "unchanged": self.unchanged,
            "deleted": self.deleted,
            "failed": self.failed,
        }
        return {
            "direction": self.direction,
            "place": self.place,
            "folder": self.folder,
            "dry_run": self.dry_run,
            **{name: {"files": count.files, "bytes": count.bytes} for name, count in counts.items()},
            "failures": dict(sorted(self.failures.items())),
            "to_delete": self.to_delete,
            "seconds": round(self.seconds, 3),
            "megabytes_per_second": round(self.megabytes_per_second, 3),
        }

    def text(self) -> str:
        """Return a summary on one line."""
        verb = f"{self.direction}ed"
        parts = [f"{verb} {_amount(self.transferred)}", f"unchanged {_amount(self.unchanged)}"]
        if self.dry_run and self.to_delete:
            parts.append(f"to delete {counted(len(self.to_delete), 'file')}")
        elif self.to_delete:
            parts.append(f"deleted {_amount(self.deleted)}")
        if self.failures:
            parts.append(f"failed {_amount(self.failed)}")
        speed = f" ({self.megabytes_per_second:.1f} MB/s)" if self.transferred.bytes and not self.dry_run else ""
        start = "dry run, nothing was changed: " if self.dry_run else ""
        return f"{start}{', '.join(parts)} in {self.seconds:.1f} s{speed}"


def _amount(count: Count) -> str:
    return f"{counted(count.files, 'file')} ({size_text(count.bytes)})"


def size_text(size: float) -> str:
    """Format a number of bytes: ``1.5 MB``."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
