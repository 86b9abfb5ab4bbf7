"""One job that was taken in, and how far it is."""

from __future__ import annotations

import threading
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path

from azureml_emulator.jobs.job_executor import JobExecution
from azureml_emulator.jobs.job_outputs import ProducedOutput
from azureml_emulator.jobs.reported_states import FINAL, ReportedJob
from azureml_emulator.resources.datastore_addresses import artifacts
from azureml_emulator.resources.rest_resources import RestResource

POLL_SECONDS = 0.05


@dataclass
class EmulatedJob:
    """A job and how far it is."""

    resource: RestResource
    folder: Path
    status: str = "Preparing"
    message: str = ""
    state: ReportedJob = field(default_factory=lambda: ReportedJob("Starting"))
    produced: dict[str, ProducedOutput] = field(default_factory=dict)
    steps: dict[str, dict[str, ProducedOutput]] = field(default_factory=dict)
    execution: JobExecution | None = None
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

    def wait(self, seconds: float = 60) -> EmulatedJob:
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
