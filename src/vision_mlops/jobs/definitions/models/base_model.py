"""What all models of Azure ML v2 YAML share: strictness, and unknown keys reported with the line they stand on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationInfo,
    model_validator,
)

from vision_mlops.core.text import nearest
from vision_mlops.jobs.definitions.findings import Findings
from vision_mlops.jobs.definitions.yaml_source import Mapping


class Reporter:
    """Validation context: where unknown keys are reported, so that all of them are found in one pass."""

    def __init__(self, file: Path, findings: Findings) -> None:
        self.file = file
        self.findings = findings

    def unknown(self, key: str, node: Mapping, valid: list[str]) -> None:
        """Report one key."""
        self.findings.error(self.file, node.lines[key], "unknown-key", f"unknown key {key!r}", nearest(key, valid))

    def empty(self, key: str, node: Mapping) -> None:
        """Report one key without a value, which Azure ML does not take for a key that is left out."""
        line = node.lines[key]
        self.findings.error(self.file, line, "value", f"the key {key!r} has no value", "give it one, or remove the key")


class DefinitionModel(BaseModel):
    """Unknown keys are findings (errors of pydantic where nobody collects), nothing is coerced from text."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, protected_namespaces=(), populate_by_name=False
    )

    @model_validator(mode="before")
    @classmethod
    def _report_unknown(cls, data: Any, info: ValidationInfo) -> Any:
        if not isinstance(info.context, Reporter) or not isinstance(data, Mapping):
            return data
        valid = [field.alias or name for name, field in cls.model_fields.items()]
        for key in data:
            if key not in valid:
                info.context.unknown(key, data, valid)
        required = {field.alias or name for name, field in cls.model_fields.items() if field.is_required()}
        kept = {}
        for key, value in data.items():
            if key in valid and value is None and key not in required:
                info.context.empty(key, data)
            elif key in valid:
                kept[key] = value
        return kept


def problem(message: str, suggestion: str) -> ValueError:
    """Error of a validator; :mod:`~vision_mlops.jobs.definitions.definition` takes the two apart again."""
    return ValueError(f"{message}\n{suggestion}")


def _text(value: Any) -> Any:
    """A version may be written as 3 and means "3"."""
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _count(value: Any) -> Any:
    if isinstance(value, bool) or not (isinstance(value, int) or (isinstance(value, str) and "${{" in value)):
        raise problem(
            f"{value!r} is not a whole number", "write a whole number of at least 1, or a ${{...}} expression"
        )
    if isinstance(value, int) and value < 1:
        raise problem(f"{value} is below 1", "write a whole number of at least 1")
    return value


def one_or_mapping(value: Any) -> str:
    """Which branch of a union of text and mapping a value belongs to."""
    return "<mapping>" if isinstance(value, dict | BaseModel) else "<text>"  # a model when it is written out again


Text = Annotated[str, BeforeValidator(_text)]
Count = Annotated[int | str, BeforeValidator(_count)]
Free = dict[str, Any]  # what a service reads and we do not: tags, services, resources' properties


class AssetDefinition(DefinitionModel):
    """Data or a model, to be registered under a name and version."""

    schema_: str | None = Field(None, alias="$schema")
    name: str
    version: Text | None = None
    description: str | None = None
    tags: Free | None = None
    properties: Free | None = None
    type: Literal["uri_file", "uri_folder", "mltable", "mlflow_model", "custom_model", "triton_model"] | None = None
    path: str


class ModelAsset(AssetDefinition):
    """A model; Azure ML knows more of it than where it lies."""

    stage: str | None = None
    flavors: Free | None = None


class Build(DefinitionModel):
    """Docker context of an environment."""

    path: str
    dockerfile_path: str | None = None


class Environment(DefinitionModel):
    """What a command runs in: an image, with conda packages on top, or a Docker context."""

    schema_: str | None = Field(None, alias="$schema")
    name: str | None = None
    version: Text | None = None
    description: str | None = None
    tags: Free | None = None
    properties: Free | None = None
    image: str | None = None
    conda_file: str | Free | None = None
    build: Build | None = None
    inference_config: Free | None = None
    os_type: Literal["linux", "windows", "Linux", "Windows"] | None = None

    @model_validator(mode="after")
    def _has_one_base(self) -> Environment:
        if self.image and self.build:
            raise problem("an environment has both image and build", "keep one of them")
        if not self.image and not self.build:
            raise problem("an environment has neither image nor build", "add `image: ...`, or `build: {path: ...}`")
        if self.build and self.conda_file:
            raise problem("an environment has both build and conda_file", "install the packages in the Dockerfile")
        return self


EnvironmentRef = Annotated[
    Annotated[Environment, Tag("<mapping>")] | Annotated[str, Tag("<text>")], Discriminator(one_or_mapping)
]


class PyTorch(DefinitionModel):
    """Several processes on a node, as torchrun starts them."""

    type: Literal["pytorch", "PyTorch"]
    process_count_per_instance: Count | None = None


class Mpi(DefinitionModel):
    """Processes started by mpirun."""

    type: Literal["mpi", "Mpi"]
    process_count_per_instance: Count | None = None


class TensorFlow(DefinitionModel):
    """Parameter servers and workers."""

    type: Literal["tensorflow", "TensorFlow"]
    parameter_server_count: int | str | None = None
    worker_count: Count | None = None


class Ray(DefinitionModel):
    """A Ray cluster."""

    type: Literal["ray", "Ray"]
    port: int | None = None
    address: str | None = None
    include_dashboard: bool | None = None
    dashboard_port: int | None = None
    head_node_additional_args: str | None = None
    worker_node_additional_args: str | None = None


Distribution = Annotated[PyTorch | Mpi | TensorFlow | Ray, Field(discriminator="type")]


class Resources(DefinitionModel):
    """Nodes and their size."""

    instance_count: Count | None = None
    instance_type: str | None = None
    shm_size: str | None = None
    docker_args: str | list[str] | None = None
    locations: list[str] | None = None
    max_instance_count: Count | None = None
    properties: Free | None = None


class JobLimits(DefinitionModel):
    """How long a command may run, in seconds."""

    timeout: Count | None = None


class JobIdentity(DefinitionModel):
    """Whose rights the job has."""

    type: Literal["managed", "managed_identity", "user", "user_identity", "aml_token"]
    client_id: str | None = None
    object_id: str | None = None
    msi_resource_id: str | None = None


class Named(DefinitionModel):
    """What every definition may say about itself."""

    schema_: str | None = Field(None, alias="$schema")
    name: str | None = None
    display_name: str | None = None
    description: str | None = None
    tags: Free | None = None
    properties: Free | None = None
