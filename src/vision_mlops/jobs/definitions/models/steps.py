"""Models of components, jobs and pipeline steps."""

from __future__ import annotations

import re
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag, model_validator

from vision_mlops.jobs.definitions.models import azure_only
from vision_mlops.jobs.definitions.models.base_model import (
    Count,
    DefinitionModel,
    Described,
    Distribution,
    EnvironmentRef,
    Flag,
    Free,
    JobIdentity,
    JobLimits,
    JobTags,
    Named,
    QueueSettings,
    Resources,
    Text,
    Whole,
    problem,
)
from vision_mlops.jobs.definitions.models.ports import Filled, InputDeclaration, OutputDeclaration
from vision_mlops.jobs.definitions.models.sweep import Sweep

Variables = dict[str, str | int | float | bool]
_MINI_BATCH = re.compile(r"\d+([kmg]b)?", re.IGNORECASE)


def _default(value: str) -> str:
    """Check a setting for all steps: it must be a reference, while a step may name its compute without a prefix."""
    if not value.startswith("azureml:") and value != "serverless":
        name = value[8:] if value.lower().startswith("azureml:") else value
        raise problem(f"{value!r} is not a reference", f"write azureml:{name}, or serverless if it is a compute")
    return value


class _Command(DefinitionModel):
    """A command and what it needs."""

    code: str | None = None
    environment: EnvironmentRef
    environment_variables: Variables | None = None
    distribution: Distribution | None = None
    resources: Resources | None = None
    command: Annotated[str, Field(min_length=1)]
    queue_settings: QueueSettings | None = None


class _Placed(DefinitionModel):
    """Where and under which identity a job runs: recorded, but not used on this machine."""

    compute: str | None = None
    identity: JobIdentity | None = None
    services: Free | None = None
    experiment_name: str | None = None


class _Queued(DefinitionModel):
    queue_settings: QueueSettings | None = None


class _Component(Named):
    ignores_unknown_keys: ClassVar[bool] = True

    version: Text | None = None
    id: str | None = None
    tags: dict[str, str] | None = None
    properties: Free | None = None
    auto_delete_setting: Free | None = None
    inputs: dict[str, InputDeclaration] = Field(default_factory=dict)
    outputs: dict[str, OutputDeclaration] = Field(default_factory=dict)
    is_deterministic: Flag = True
    additional_includes: list[str] | None = None


class TrialDefinition(_Command):
    """The command of a sweep job, inline."""


class CommandComponent(_Component, _Command):
    """A command with declared inputs and outputs."""

    type: Literal["command"] = "command"
    limits: JobLimits | None = None


class _GivenCommand(_Command, _Placed, Filled):
    """A command with its inputs, as a job or a step."""

    type: Literal["command"] = "command"
    tags: JobTags | None = None
    limits: JobLimits | None = None
    parent_job_name: str | None = None


class CommandJob(_GivenCommand, Named):
    """A command with its inputs."""

    read_only_keys: ClassVar[frozenset[str]] = Named.read_only_keys | {"parameters"}


class ParallelTask(DefinitionModel):
    """The entry script of a parallel step: ``init()`` and ``run(mini_batch)``."""

    ignores_unknown_keys: ClassVar[bool] = True

    type: Literal["run_function", "function", "model"]
    entry_script: Annotated[str, Field(min_length=1)]
    environment: EnvironmentRef
    code: str | None = None
    program_arguments: str | None = None
    append_row_to: str | None = None
    model: str | Free | None = None


def _mini_batch(value: Any) -> Any:
    if not isinstance(value, str):
        raise problem(f"{value!r} is not text", f'quote it: "{value}"')
    if not _MINI_BATCH.fullmatch(value) and "${{" not in value:
        raise problem(
            f"{value!r} is not a size of a mini-batch", 'write a number of files such as "32", or a size: "10mb"'
        )
    return value


MiniBatch = Annotated[str, BeforeValidator(_mini_batch)]


class Retry(DefinitionModel):
    """How often a mini-batch is tried again, and for how long (seconds)."""

    ignores_unknown_keys: ClassVar[bool] = True

    max_retries: Annotated[Whole, Field(ge=0)] | str | None = None
    timeout: Count | None = None


class _Batched(DefinitionModel):
    """How an entry script is run over mini-batches, which a step may change."""

    mini_batch_size: MiniBatch | None = None
    max_concurrency_per_instance: Count | None = None
    error_threshold: Whole | None = None
    mini_batch_error_threshold: Whole | None = None
    retry_settings: Retry | None = None
    logging_level: Literal["DEBUG", "INFO", "WARNING"] | None = None
    environment_variables: Variables | None = None
    resources: Resources | None = None


class _Parallel(_Batched):
    task: ParallelTask
    input_data: str | None = None
    partition_keys: list[str] | None = None
    error_threshold: Annotated[Whole, Field(ge=-1)] | None = None
    mini_batch_error_threshold: Annotated[Whole, Field(ge=-1)] | None = None


class ParallelComponent(_Component, _Parallel):
    """An entry script that is run over mini-batches of a folder."""

    type: Literal["parallel"]


class _Step(Described):
    comment: str | None = None


class ComponentStep(_Step, _Batched, _Placed, _Queued, Filled):
    """A step that runs a component: in a file, inline or registered."""

    ignores_unknown_keys: ClassVar[bool] = True

    type: Literal["command", "parallel", "pipeline"] | None = None
    component: str | Free
    environment: EnvironmentRef | None = None
    distribution: Distribution | None = None
    limits: JobLimits | None = None


class CommandStep(_GivenCommand, _Step):
    """A step with its command inline."""

    read_only_keys: ClassVar[frozenset[str]] = CommandJob.read_only_keys | {"$schema"}


class ParallelStep(_Step, _Parallel, _Placed, _Queued, Filled):
    """A step with its entry script inline."""

    type: Literal["parallel"]


class SweepStep(_Step, Sweep, _Placed, Filled):
    """A step that searches for the best values of a component's inputs."""

    ignores_unknown_keys: ClassVar[bool] = True

    type: Literal["sweep"]


class SweepJob(Named, Sweep, _Placed, Filled):
    """A job that searches for the best values of a command's inputs."""

    type: Literal["sweep"]
    tags: JobTags | None = None


def _step_sort(value: Any) -> str:
    """Choose the model that reads a step. An unknown type is left to the one that reports it."""
    if isinstance(value, dict):
        if value.get("type") in azure_only.STEP_TYPES:
            return "<azure>"
        if value.get("type") == "sweep" or "trial" in value:
            return "<sweep>"
        if "component" in value or value.get("type") == "pipeline":
            return "<component>"
        if value.get("type") == "parallel" or "task" in value:
            return "<parallel>"
    return "<command>"


Step = Annotated[
    Annotated[ComponentStep, Tag("<component>")]
    | Annotated[CommandStep, Tag("<command>")]
    | Annotated[ParallelStep, Tag("<parallel>")]
    | Annotated[SweepStep, Tag("<sweep>")]
    | Annotated[azure_only.AzureStep, Tag("<azure>")],
    Discriminator(_step_sort),
]


class PipelineSettings(DefinitionModel):
    """How a pipeline runs."""

    ignores_unknown_keys: ClassVar[bool] = True

    default_compute: Annotated[str, AfterValidator(_default)] | None = None
    default_datastore: Annotated[str, AfterValidator(_default)] | None = None
    continue_on_step_failure: Flag | None = None
    continue_run_on_step_failure: Flag | None = None
    continue_run_on_failed_optional_input: Flag | None = None
    force_rerun: Flag | None = None


class PipelineJob(Named, _Placed, Filled):
    """Steps whose inputs are bound to each other's outputs, or a pipeline component that contains them."""

    type: Literal["pipeline"]
    tags: JobTags | None = None
    settings: PipelineSettings | None = None
    component: str | None = None
    jobs: Annotated[dict[str, Step], Field(min_length=1)] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _has_steps(self) -> PipelineJob:
        if not self.jobs and self.component is None:
            raise problem("the key 'jobs' is missing", "add `jobs: ...`, or the component that contains them")
        return self


class PipelineComponent(_Component):
    """A pipeline that is itself a step of another one, or is deployed to an endpoint."""

    type: Literal["pipeline"]
    settings: PipelineSettings | None = None
    jobs: Annotated[dict[str, Step], Field(min_length=1)]
