"""What all steps of one running job share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from vision_mlops.core.hashing import Fingerprints
from vision_mlops.jobs.definitions.plan.nodes import Node, Plan
from vision_mlops.jobs.local.inputs.input_sources import Sources
from vision_mlops.jobs.local.state.job_display import Display
from vision_mlops.jobs.local.state.job_runs import Runs
from vision_mlops.jobs.local.state.job_state import JobFolder, JobState

OutsideState = Callable[[str, Node, Mapping[str, str]], str]


@dataclass
class Context:
    """What all steps of a job share.

    Attributes:
        force: Reuse nothing from earlier jobs.
        resumed: The job goes on: what it has done itself is kept, also where it is not reused by others.
        outside_state: Answers for a step tagged ``mlops.state: KIND`` what is now outside of the job that it reads and
            changes, such as the model registry: it is reused only where that is as the step left it.
        commit: Of the project that the definition is part of.
        hashes: Content of outputs that are known by now, by ``STEP:OUTPUT``.
    """

    folder: JobFolder
    plan: Plan
    state: JobState
    fingerprints: Fingerprints
    sources: Sources
    runs: Runs
    display: Display
    force: bool = False
    resumed: bool = False
    outside_state: OutsideState | None = None
    commit: str = ""
    hashes: dict[str, str] = field(default_factory=dict)

    def save(self) -> None:
        """Write the state down."""
        self.state.run_id = self.state.run_id or self.runs.known_id
        self.folder.save(self.state)
