"""One submitted job, and its progress."""

from __future__ import annotations

import threading
import time
import uuid
from dataclasses import asdict, dataclass, field
from pathlib import Path

from azureml_emulator.jobs.job_executor import JobExecution
from azureml_emulator.jobs.job_outputs import ProducedOutput
from azureml_emulator.jobs.reported_states import FINAL, ReportedJob, settled_state
from azureml_emulator.resources.datastore_addresses import artifacts
from azureml_emulator.resources.rest_resources import RestResource
from azureml_emulator.rest.rest_calls import Json

POLL_SECONDS = 0.05


@dataclass
class EmulatedJob:
    """A job and its progress."""

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
        """Return the name of the job."""
        return self.resource.name

    @property
    def workspace(self) -> str:
        """Return the path of the workspace."""
        return self.resource.id.rsplit("/jobs/", 1)[0]

    @property
    def finished(self) -> bool:
        """Return whether it has ended and everything that it created is in the storage account."""
        return self.status in FINAL

    @property
    def artifacts(self) -> str:
        """Return the folder of its logs."""
        return artifacts(self.name)

    def child_id(self, step: str) -> str:
        """Return the name of the run of a step: like the service's, it has no meaning."""
        return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{self.resource.id}/{step}"))

    def to_kept(self, status: str) -> Json:
        """Return what is kept of it when it has ended with a status, besides the files that it wrote."""
        return {
            "status": status,
            "message": self.message,
            "produced": {name: asdict(item) for name, item in self.produced.items()},
            "steps": {step: {name: asdict(item) for name, item in items.items()} for step, items in self.steps.items()},
        }

    def take(self, kept: Json) -> None:
        """Restore what :meth:`to_kept` returned."""
        self.status, self.message = kept["status"], kept["message"]
        self.state = settled_state(self.state, self.status, self.message)
        self.produced = {name: ProducedOutput(**item) for name, item in kept["produced"].items()}
        self.steps = {
            step: {name: ProducedOutput(**item) for name, item in items.items()}
            for step, items in kept["steps"].items()
        }

    def wait(self, seconds: float = 60) -> EmulatedJob:
        """Wait until it has ended.

        Raises:
            TimeoutError: It is still running.
        """
        deadline = time.monotonic() + seconds
        while not self.finished:
            if time.monotonic() > deadline:
                raise TimeoutError(f"the job {self.name} is {self.status} after {seconds:g} s: {self.state}")
            time.sleep(POLL_SECONDS)
        return self
