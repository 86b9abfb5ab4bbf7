"""One job that was taken in, and how far it is."""

from __future__ import annotations

import threading
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from testing.fakes.executor import Execution
from testing.fakes.outputs import Produced, artifacts
from testing.fakes.states import FINAL, JobState

if TYPE_CHECKING:
    from testing.fakes.store import Resource

POLL_SECONDS = 0.05


@dataclass
class JobRecord:
    """A job and how far it is."""

    resource: Resource
    folder: Path
    status: str = "Preparing"
    message: str = ""
    state: JobState = field(default_factory=lambda: JobState("Starting"))
    produced: dict[str, Produced] = field(default_factory=dict)
    steps: dict[str, dict[str, Produced]] = field(default_factory=dict)
    execution: Execution | None = None
    cancelled: bool = False
    thread: threading.Thread | None = None

    @property
    def name(self) -> str:
        """Name of the job."""
        return self.resource.name

    @property
    def workspace(self) -> str:
        """Path of the workspace."""
        return self.resource.id.rsplit("/jobs/", 1)[0]

    @property
    def finished(self) -> bool:
        """Whether it has ended and all that it made is in the storage account."""
        return self.status in FINAL

    @property
    def artifacts(self) -> str:
        """Folder of its logs."""
        return artifacts(self.name)

    def child_id(self, step: str) -> str:
        """Name of the run of a step: like the service's, it says nothing."""
        return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{self.resource.id}/{step}"))

    def wait(self, seconds: float = 60) -> JobRecord:
        """Wait until it has ended.

        Raises:
            TimeoutError: It goes on.
        """
        deadline = time.monotonic() + seconds
        while not self.finished:
            if time.monotonic() > deadline:
                raise TimeoutError(f"the job {self.name} is {self.status} after {seconds:g} s: {self.state}")
            time.sleep(POLL_SECONDS)
        return self
