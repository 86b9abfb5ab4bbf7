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
        outside_state: For a step tagged ``mlops.state: KIND``: takes the kind, the step and the text of its inputs; returns
            the state outside of the job that it reads and changes, such as a model registry. The step is reused only if
            that is as the step left it.
        sections: For an input that a tag ``mlops.reads.INPUT`` narrows: takes its text, the names of the sections and the
            code folder of the step; returns the content of these sections in one form, however the text refers to it, or
            None if only the text counts. Raises PipelineError if the text or a name is wrong.
        software: Takes a step and the text of its inputs; returns a hash of the installed software that it runs and of
            everything else that it may read, or an empty text if its definition says everything.
        code: Takes a step; returns the folder of code that it needs and its definition does not name, or None. Raises
            PipelineError if that is missing.
    """

    outside_state: OutsideState | None = None
    sections: SectionsReader | None = None
    software: SoftwareHash | None = None
    code: StepCode | None = None


@dataclass
class Context:
    """What all steps of a job share.

    Attributes:
        environments: What the steps run in.
        force: Reuse nothing from earlier jobs.
        resumed: Whether the job continues: its own results are kept, even if other jobs cannot reuse them.
        dependencies: What the results of steps depend on beyond their definition.
        commit: Commit of the project that contains the definition.
        hashes: Content hashes of the outputs so far, by ``STEP:OUTPUT``.
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
        """Save the state of the job."""
        self.state.run_id = self.state.run_id or self.runs.known_id
        self.folder.save(self.state)
