"""The beginning of a file that is being downloaded, and what its server said of it: enough to continue after any end."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from vision_mlops.core.files import atomic_write


@dataclass(frozen=True, slots=True)
class Version:
    """Which content a server sends: its ``ETag``, ``Last-Modified`` and length in bytes, as far as it says so."""

    etag: str = ""
    modified: str = ""
    length: int | None = None

    @property
    def condition(self) -> str:
        """Value of ``If-Range``; empty if the server gave nothing that a range could be bound to.

        A weak ETag stands for contents that mean the same and may differ in bytes, so it is not enough.
        """
        return self.etag if self.etag and not self.etag.startswith("W/") else self.modified


class Part:
    """``NAME.part`` next to the file that it becomes, with its version in ``NAME.part.json``.

    Args:
        target: The whole file.
    """

    def __init__(self, target: Path) -> None:
        self.target = target
        self.path = target.with_name(f"{target.name}.part")
        self._notes = target.with_name(f"{target.name}.part.json")

    @property
    def size(self) -> int:
        """Number of bytes that are there."""
        try:
            return self.path.stat().st_size
        except FileNotFoundError:
            return 0

    @property
    def version(self) -> Version:
        """The version that the bytes belong to."""
        try:
            found = json.loads(self._notes.read_text(encoding="utf-8"))
            length = found["length"]
            return Version(str(found["etag"]), str(found["modified"]), None if length is None else int(length))
        except (OSError, ValueError, KeyError, TypeError):
            return Version()

    def resumable(self, sha256: str | None) -> bool:
        """Return whether a later rest that is of another content would be noticed."""
        return bool(self.version.condition or sha256)

    def begin(self, version: Version) -> None:
        """Start over with another version."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_bytes(b"")  # first, so that a kill in between cannot leave old bytes under the new version
        atomic_write(self._notes, json.dumps(asdict(version)) + "\n")

    def append(self, content: bytes) -> None:
        """Write bytes at the end at once: a process that is killed loses none.

        Raises:
            OSError: as many as there is space for were written.
        """
        with self.path.open("ab", buffering=0) as stream:
            rest = memoryview(content)
            while rest:  # an unbuffered write stops without an error when the space ends
                rest = rest[stream.write(rest) :]

    def finish(self) -> None:
        """Turn it into the whole file."""
        self.path.replace(self.target)
        self._notes.unlink(missing_ok=True)

    def discard(self) -> None:
        """Remove it."""
        self.path.unlink(missing_ok=True)
        self._notes.unlink(missing_ok=True)
