"""Models of what only Azure runs: AutoML, Spark, imports, transfers, control flow, endpoints and deployments.

They read only what the linter and the plan need. Every other key is left to Azure ML's SDK, which has schemas of its own.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ConfigDict, Field, ValidationInfo, model_validator

from vision_mlops.jobs.definitions.models.base_model import DefinitionModel, Free, Text, problem
from vision_mlops.jobs.definitions.models.ports import Filled, InputDeclaration, OutputDeclaration

CONTROL_FLOW = ("do_while", "if_else", "parallel_for")
"""Types of steps that decide whether and how often other steps of their pipeline run."""
BLOCKS = ("body", "true_block", "false_block")
"""Keys with which they name the other steps."""
SDK_SWITCH = "AZURE_ML_CLI_PRIVATE_FEATURES_ENABLED"
"""Environment variable without which Azure ML's SDK refuses such steps."""
STEP_TYPES = ("automl", "spark", "import", "data_transfer", *CONTROL_FLOW)
_REQUIRED = {
    "automl": ("task",), "spark": ("entry",), "import": ("source",), "data_transfer": ("task",),
    "do_while": ("body", "mapping", "limits"), "if_else": ("condition",), "parallel_for": ("body", "items"),
}  # fmt: skip


class _AzureOnly(DefinitionModel):
    """Accepts any key, and checks that those which this type requires are present."""

    model_config = ConfigDict(extra="allow")

    @model_validator(mode="before")
    @classmethod
    def _report_unknown(cls, data: Any, info: ValidationInfo) -> Any:
        return dict(data) if isinstance(data, dict) else data

    @model_validator(mode="after")
    def _is_whole(self) -> _AzureOnly:
        given = {*self.model_fields_set, *(self.model_extra or {})}
        type_ = str(getattr(self, "type", ""))
        absent = [key for key in _REQUIRED.get(type_, ()) if key not in given]
        if absent and "component" not in given:
            raise problem(f"the key {absent[0]!r} is missing", f"add `{absent[0]}: ...`")
        if type_ == "if_else" and not given & {"true_block", "false_block"}:
            raise problem("an if_else step has neither true_block nor false_block", "add one of them, or both")
        return self


class AzureStep(Filled, _AzureOnly):
    """A step of a pipeline."""

    type: Literal["automl", "spark", "import", "data_transfer", "do_while", "if_else", "parallel_for"]
    component: str | Free | None = None


class AzureJob(Filled, _AzureOnly):
    """A job that is not part of a pipeline."""

    type: Literal["automl", "spark", "import"]
    name: str | None = None


class AzureComponent(_AzureOnly):
    """A component that a step of Azure names."""

    type: Literal["automl", "spark", "import", "data_transfer"]
    name: str | None = None
    version: Text | None = None
    inputs: dict[str, InputDeclaration] = Field(default_factory=dict)
    outputs: dict[str, OutputDeclaration] = Field(default_factory=dict)


class AzureEndpoint(_AzureOnly):
    """An online or batch endpoint."""

    name: str


class AzureDeployment(_AzureOnly):
    """What an endpoint serves."""

    name: str
    endpoint_name: str | None = None


class PromptFlow(_AzureOnly):
    """A flow, or a run of one, that is the component of a parallel step."""


def words_of(model: object) -> str:
    """Describe what only Azure runs, such as ``an automl job for image_classification``; empty for anything else."""
    if isinstance(model, PromptFlow):
        return "a prompt flow"
    if isinstance(model, AzureStep | AzureJob | AzureComponent):
        noun = {AzureStep: "step", AzureJob: "job", AzureComponent: "component"}[type(model)]
        return in_words(model.type, noun, (model.model_extra or {}).get("task"))
    return ""


def in_words(type_: str, noun: str, task: object) -> str:
    """Describe what only Azure runs by its type and task."""
    article = "an" if type_[0] in "aeiou" else "a"
    return f"{article} {type_} {noun}" + (f" for {task}" if type_ == "automl" and isinstance(task, str) else "")


def way_of(task: object) -> str:
    """Say what to do with a task that does not run on this machine."""
    if task == "image_classification":
        return "add --on azure; on this machine `mlops run --workload NAME` trains an image classifier"
    return "add --on azure"
