"""Retrains when images change: watches the content of a folder and starts one run at a time, even across restarts."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vision_mlops.core.errors import DataError, MlopsError
from vision_mlops.core.files import atomic_write
from vision_mlops.core.hashing import Fingerprints
from vision_mlops.jobs.local.state.job_state import now

Say = Callable[[str], None]
_SUFFIXES_OF_UNFINISHED = (".part", ".tmp", ".crdownload")


@dataclass(frozen=True)
class PollIntervals:
    """Seconds between two checks, and for how long nothing may change before a run starts."""

    poll: float = 5.0
    settle: float = 30.0


@dataclass
class Watch:
    """Watches one folder.

    Attributes:
        folder: Images.
        memory: File that records what was trained on, so that a restart does not train again.
        run: Trains; called with the fingerprint of the images, and returns False if training failed.
        rhythm: How often to check.
        say: Told what happens.

    Raises:
        DataError: ``folder`` is not a folder.
    """

    folder: Path
    memory: Path
    run: Callable[[str], bool]
    rhythm: PollIntervals = field(default_factory=PollIntervals, kw_only=True)
    say: Say = field(default=lambda text: None, kw_only=True)

    def __post_init__(self) -> None:
        if not self.folder.is_dir():
            raise DataError(f"{self.folder} is not a folder", "give the folder with the class folders of images")
        self.folder = self.folder.resolve()

    def forever(self) -> None:
        """Check until the process is interrupted."""
        self.say(f"watching {self.folder}; press Ctrl-C to stop")
        while True:
            self.once()
            time.sleep(self.rhythm.poll)

    def once(self) -> bool | None:
        """Check once: if the images are not those of the last run, wait until they have settled, and run.

        Returns:
            Whether the run succeeded; None if there was none.
        """
        if self._unchanged(self._fingerprint()):
            return None
        settled = self._settled()
        if self._unchanged(settled):  # they are as before
            return None
        self.say(f"the images have changed ({settled[:12]}): training")
        self._remember(settled, "running")
        try:
            good = self.run(settled)
        except MlopsError as error:
            self.say(f"error: {error}")
            good = False
        self._remember(settled, "completed" if good else "failed")
        if not good:
            self.say("the run failed; the next change of the images starts another one")
        return good

    def _unchanged(self, fingerprint: str) -> bool:
        """Return whether a run on these images has ended. A run that was interrupted is started again."""
        memory = self._recall()
        return memory.get("fingerprint") == fingerprint and memory.get("state") != "running"

    def _settled(self) -> str:
        """Wait until the fingerprint has not changed for the time to settle; return it."""
        last, since = self._fingerprint(), time.monotonic()
        while time.monotonic() - since < self.rhythm.settle:
            time.sleep(min(self.rhythm.poll, self.rhythm.settle / 4))
            found = self._fingerprint()
            if found != last:
                last, since = found, time.monotonic()
        return last

    def _fingerprint(self) -> str:
        while True:
            try:
                with Fingerprints() as fingerprints:
                    return fingerprints.of_files(self.folder, self._files())
            except FileNotFoundError:  # removed between the listing and the reading
                time.sleep(0.1)

    def _files(self) -> list[str]:
        """List the relative names of all files except hidden ones and those that are still being copied."""
        found = [
            path.relative_to(self.folder)
            for path in self.folder.rglob("*")
            if path.is_file() and path.suffix not in _SUFFIXES_OF_UNFINISHED
        ]
        return sorted(path.as_posix() for path in found if not any(part.startswith(".") for part in path.parts))

    def _recall(self) -> dict[str, Any]:
        try:
            content = json.loads(self.memory.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        same = isinstance(content, dict) and content.get("folder") == str(self.folder)
        return content if same else {}

    def _remember(self, fingerprint: str, state: str) -> None:
        content = {"folder": str(self.folder), "fingerprint": fingerprint, "state": state, "at": now()}
        atomic_write(self.memory, json.dumps(content, indent=2) + "\n")
