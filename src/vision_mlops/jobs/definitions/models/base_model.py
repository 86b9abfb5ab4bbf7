"""What all models of Azure ML v2 YAML share: strictness, and unknown keys that are reported with their line."""

from __future__ import annotations

import copy
import functools
import re
from collections.abc import Collection, Iterator
from typing import Annotated, Any, ClassVar, Literal, get_args, get_origin

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

from vision_mlops.core import typed_text
from vision_mlops.core.text import nearest
from vision_mlops.jobs.definitions.yaml_source import Mapping


class DefinitionModel(BaseModel):
    """Reports all unknown keys in one pass, and coerces nothing from text.

    The context of a validation is a function that takes line, rule, message and suggestion of a finding. Without it, an
    unknown key is an error of pydantic.
    """

    ignores_unknown_keys: ClassVar[bool] = False  # as the SDK's schema of the same part does
    read_only_keys: ClassVar[frozenset[str]] = frozenset()  # in the output of `az ml job show`: the SDK ignores them
    any_case: ClassVar[bool] = True  # words such as maximize may have capital letters

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        allow_inf_nan=False,
        protected_namespaces=(),
        populate_by_name=False,
        defer_build=True,  # a job needs few of the models, and building all of them takes longer than reading its file
    )

    @model_validator(mode="before")
    @classmethod
    def _report_unknown(cls, data: Any, info: ValidationInfo) -> Any:
        report: Any = info.context
        if report is None or not isinstance(data, Mapping):
            return data
        required = {field.alias or name: field.is_required() for name, field in cls.model_fields.items()}
        kept = {}
        for key, value in data.items():
            line = data.lines[key]
            if key not in required:
                ignored = cls.ignores_unknown_keys or key in cls.read_only_keys
                rule, what = ("ignored-key", "Azure ML ignores the unknown") if ignored else ("unknown-key", "unknown")
                report(line, rule, f"{what} key {key!r}", nearest(key, required))
            elif value is None and not required[key]:  # which is something else for Azure ML than a key that is absent
                report(line, "value", f"the key {key!r} has no value", "add a value, or remove the key")
            else:
                if isinstance(value, float) and not value.is_integer() and key in _whole_numbers(cls):
                    message = f"Azure ML reads {key} {value} as {int(value)}"
                    report(line, "fraction", message, f"write {int(value)}")
                kept[key] = _small(value, _words(cls).get(key, ())) if cls.any_case else value
        return kept


def problem(message: str, suggestion: str) -> ValueError:
    """Create the error of a validator; :mod:`~vision_mlops.jobs.definitions.definition` separates the two parts again."""
    return ValueError(f"{message}\n{suggestion}")


def _text(value: Any) -> Any:
    """Read a version that is written as 3 as "3"."""
    return str(value) if isinstance(value, int | float) else value


def _number(value: Any) -> Any:
    """Read text that contains a number as that number, as the SDK does."""
    if not isinstance(value, str):
        return value
    try:
        return float(typed_text.decimal(value))
    except ValueError as error:
        raise problem(str(error), "write a number") from None


def _whole(value: Any) -> Any:
    """Read ``"8"``, 8.0 and 8.5 as 8, as the SDK does; ``"8.5"`` is not a whole number."""
    if not isinstance(value, str | float):
        return value
    try:
        return int(value)
    except (ValueError, OverflowError):
        return value


def _count(value: Any) -> Any:
    if not isinstance(value, str) or "${{" not in value:
        value = _whole(value)
    if isinstance(value, bool) or not (isinstance(value, int) or (isinstance(value, str) and "${{" in value)):
        raise problem(
            f"{value!r} is not a whole number", "write a whole number of at least 1, or a ${{...}} expression"
        )
    if isinstance(value, int) and value < 1:
        raise problem(f"{value} is below 1", "write a whole number of at least 1")
    return value


def one_or_mapping(value: Any) -> str:
    """Return the tag of the branch that a value belongs to in a union of a scalar and a mapping."""
    return "<mapping>" if isinstance(value, dict | BaseModel) else "<text>"  # a model when it is serialised


def _small(value: Any, words: Collection[str]) -> Any:
    """Return one of some words in lowercase, as the SDK reads ``Maximize``; any other value as it is."""
    small = value.lower() if isinstance(value, str) else ""
    return small if value not in words and small in words else value


def _small_type(value: Any) -> Any:
    """Do the same for the key ``type``, which selects the branch of a union."""
    type_ = value.get("type") if isinstance(value, dict) else None
    if not isinstance(type_, str) or type_ == type_.lower():
        return value
    changed = copy.copy(value)
    changed["type"] = type_.lower()
    return changed


BY_TYPE = BeforeValidator(_small_type)


def _parts(annotation: Any) -> Iterator[Any]:
    """Yield an annotation and all that it is made of."""
    yield annotation
    for part in () if get_origin(annotation) is Literal else get_args(annotation):
        yield from _parts(part)


@functools.cache
def _words(model: type[BaseModel]) -> dict[str, tuple[str, ...]]:
    """Return the words that each key with a fixed set accepts; the case of ``type`` matters, so it is left out."""
    found = {}
    for name, field in model.model_fields.items():
        words = [get_args(part) for part in _parts(field.annotation) if get_origin(part) is Literal]
        if words and name != "type":
            found[field.alias or name] = tuple(word for group in words for word in group)
    return found


@functools.cache
def _whole_numbers(model: type[BaseModel]) -> frozenset[str]:
    """Return the keys of a model that accept a whole number."""
    markers = {BeforeValidator(_whole), BeforeValidator(_count)}
    return frozenset(
        field.alias or name
        for name, field in model.model_fields.items()
        if markers
        & {item for item in (*field.metadata, *_parts(field.annotation)) if isinstance(item, BeforeValidator)}
    )


Text = Annotated[str, BeforeValidator(_text)]
Number = Annotated[int | float, BeforeValidator(_number)]
Whole = Annotated[int, BeforeValidator(_whole)]
Flag = Annotated[bool, Field(strict=False)]  # "true", "yes" in quotes and 1 are true, as for the SDK
Count = Annotated[int | str, BeforeValidator(_count)]
Texts = dict[str, str | None]
JobTags = Texts  # the SDK accepts anything as tags of assets and schedules
Free = dict[str, Any]  # read by a service and not here: tags, services, properties of resources


DataType = Literal["uri_file", "uri_folder", "mltable", "mlflow_model", "custom_model", "triton_model"]


class AssetDefinition(DefinitionModel):
    """Data or a model, to be registered under a name and version."""

    schema_: str | None = Field(None, alias="$schema")
    name: str
    version: Text | None = None
    description: str | None = None
    tags: Free | None = None
    properties: Free | None = None
    type: DataType | None = None
    path: str


class ModelAsset(AssetDefinition):
    """A model, of which Azure ML knows more than its location."""

    stage: str | None = None
    flavors: Free | None = None


class Route(DefinitionModel):
    """A path and port of a server."""

    path: str
    port: Whole


class InferenceConfig(DefinitionModel):
    """The routes under which the image of an environment serves a model."""

    liveness_route: Route
    scoring_route: Route
    readiness_route: Route


class Build(DefinitionModel):
    """Docker context of an environment."""

    path: str
    dockerfile_path: str | None = None


class Environment(DefinitionModel):
    """What a command runs in: an image, optionally with conda packages, or a Docker context."""

    read_only_keys: ClassVar[frozenset[str]] = frozenset(
        {"creation_context", "latest_version", "intellectual_property"}
    )

    schema_: str | None = Field(None, alias="$schema")
    name: str | None = None
    id: str | None = None
    version: Text | None = None
    description: str | None = None
    tags: Free | None = None
    auto_delete_setting: Free | None = None
    datastore: str | None = None
    image: str | None = None
    conda_file: str | Free | None = None
    build: Build | None = None
    inference_config: InferenceConfig | None = None
    os_type: Literal["linux", "windows"] | None = None

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

    type: Literal["pytorch"]
    process_count_per_instance: Count | None = None


class Mpi(DefinitionModel):
    """Processes started by mpirun."""

    type: Literal["mpi"]
    process_count_per_instance: Count | None = None


class TensorFlow(DefinitionModel):
    """Parameter servers and workers."""

    type: Literal["tensorflow"]
    parameter_server_count: int | str | None = None
    worker_count: Count | None = None


class Ray(DefinitionModel):
    """A Ray cluster."""

    type: Literal["ray"]
    port: Whole | None = None
    address: str | None = None
    include_dashboard: Flag | None = None
    dashboard_port: Whole | None = None
    head_node_additional_args: str | None = None
    worker_node_additional_args: str | None = None


Distribution = Annotated[PyTorch | Mpi | TensorFlow | Ray, Field(discriminator="type"), BY_TYPE]


class QueueSettings(DefinitionModel):
    """Tier and priority of a job in the queue of serverless compute."""

    job_tier: Literal["null", "spot", "basic", "standard", "premium"] | None = None
    priority: Literal["low", "medium", "high"] | None = None


class Resources(DefinitionModel):
    """Number and size of the nodes."""

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


def _snake(value: Any) -> Any:
    """Read ``UserIdentity`` as user_identity."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", value).lower() if isinstance(value, str) else value


class JobIdentity(DefinitionModel):
    """The identity that the job runs under."""

    type: Annotated[Literal["managed", "managed_identity", "user_identity", "aml_token"], BeforeValidator(_snake)]
    client_id: str | None = None
    object_id: str | None = None
    msi_resource_id: str | None = None


class Described(DefinitionModel):
    """What jobs, components and steps may say about themselves."""

    name: str | None = None
    display_name: str | None = None
    description: str | None = None
    tags: Free | None = None
    properties: Texts | None = None


class Named(Described):
    """What a job, component or schedule may say about itself in a file of its own."""

    read_only_keys: ClassVar[frozenset[str]] = frozenset({"creation_context", "id", "log_files", "status"})

    schema_: str | None = Field(None, alias="$schema")
