"""What all steps of one running job share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vision_mlops.core.hashing import Fingerprints
from vision_mlops.jobs.definitions.plan.nodes import JobPlan, Node
from vision_mlops.jobs.local.environments.step_environments import StepEnvironments
from vision_mlops.jobs.local.inputs.input_sources import Sources
from vision_mlops.jobs.local.state.job_display import Display
from vision_mlops.jobs.local.state.job_runs import JobRuns
from vision_mlops.jobs.local.state.job_state import JobFolder, JobState

OutsideState = Callable[[str, Node, Mapping[str, str]], str]
SectionsReader = Callable[[str, Sequence[str], Path | None], str | None]
StepCode = Callable[[Node], Path | None]
SoftwareHash = Callable[[Node, Mapping[str, str]], str]


@dataclass(frozen=True)
class Dependencies:
    """What the results of steps depend on beyond their definition; the caller knows it, the engine does not.

    Attributes:
        outside_state: Of a step tagged ``mlops.state: KIND``: from the kind, the step and the text of its inputs, the state
            outside of the job that it reads and changes, such as a model registry. The step is reused only where that is as
            it left it.
        sections: Of an input that a tag ``mlops.reads.INPUT`` narrows: from its text, the names of the sections and the code
            folder of the step, the content of these sections in one form, however the text refers to it. None where the
            text alone can count. Raises PipelineError where the text or a name is wrong.
        software: From a step and the text of its inputs, a hash of the installed software that it runs and of all else that
            it may read; empty where its definition says everything.
        code: Of a step, the folder of code that it needs and its definition does not give it; None where there is none.
            Raises PipelineError where that is missing.
    """

    outside_state: OutsideState | None = None
    sections: SectionsReader | None = None
    software: SoftwareHash | None = None
    code: StepCode | None = None


@dataclass
class Context:
    """What all steps of a job share.

    Attributes:
        force: Reuse nothing from earlier jobs.
        resumed: The job goes on: what it has done itself is kept, also where it is not reused by others.
        environments: What its steps run in.
        dependencies: Of the results of steps, beyond their definition.
        commit: Of the project that the definition is part of.
        hashes: Content of outputs that are known by now, by ``STEP:OUTPUT``.
    """

    folder: JobFolder
    plan: JobPlan
    state: JobState
    fingerprints: Fingerprints
    sources: Sources
    runs: JobRuns
    display: Display
    environments: StepEnvironments
    force: bool = False
    resumed: bool = False
    dependencies: Dependencies = field(default_factory=Dependencies)
    commit: str = ""
    hashes: dict[str, str] = field(default_factory=dict)

    def save(self) -> None:
        """Write the state down."""
        self.state.run_id = self.state.run_id or self.runs.known_id
        self.folder.save(self.state)
