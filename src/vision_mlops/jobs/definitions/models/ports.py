"""Inputs and outputs: as a component declares them, and as a job or step fills them."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, model_validator

from vision_mlops.core import typed_text
from vision_mlops.jobs.definitions.models.base_model import (
    DataType,
    DefinitionModel,
    Flag,
    Number,
    Text,
    problem,
)

InputType = Literal[DataType, "string", "number", "integer", "boolean"]
# A declaration accepts every mode, a job or step only those that make sense.
DeclaredMode = Literal[
    "ro_mount", "rw_mount", "mount", "download", "upload", "direct", "eval_mount", "eval_download", "link"
]
InputMode = Literal["ro_mount", "download", "direct", "eval_mount", "eval_download"]
OutputMode = Literal["rw_mount", "mount", "upload", "direct"]
VALUE_TYPES = frozenset({"string", "number", "integer", "boolean"})
_FILES = frozenset({"uri_file"})
_FOLDERS = frozenset({"uri_folder", "mltable", "mlflow_model"})


class _Declaration(DefinitionModel):
    any_case: ClassVar[bool] = False

    type: InputType
    description: str | None = None
    mode: DeclaredMode | None = None
    path: str | None = None


class InputDeclaration(_Declaration):
    """An input of a component."""

    default: Any = None
    optional: Flag = False
    enum: list[Any] | None = None
    min: Number | None = None
    max: Number | None = None

    @property
    def required(self) -> bool:
        """Whether a step must fill it."""
        return not self.optional and self.default is None and self.path is None


class OutputDeclaration(_Declaration):
    """An output of a component."""

    is_control: Flag | None = None
    early_available: Flag | None = None


def _data_type(value: Any) -> Any:
    if isinstance(value, str) and value in VALUE_TYPES:
        raise problem(f"a job gives a {value} directly, without a type", "write `NAME: VALUE`")
    return value


class JobInput(DefinitionModel):
    """Data, or a value in long form, that a job or step is given."""

    type: Annotated[DataType, BeforeValidator(_data_type)] | None = None
    path: str | None = None
    mode: InputMode | None = None
    path_on_compute: str | None = None
    datastore: str | None = None
    value: Any = None

    @property
    def content(self) -> Any:
        """The path or the value; None if it has neither."""
        return self.value if self.path is None else self.path

    @model_validator(mode="after")
    def _mode_fits(self) -> JobInput:
        if self.mode in ("eval_mount", "eval_download") and self.type != "mltable":
            raise problem(f"mode {self.mode} works only with data of type mltable", "use ro_mount, download or direct")
        return self


class JobOutput(DefinitionModel):
    """Where an output of a job or step goes, and the asset that it becomes."""

    type: DataType | None = None
    path: str | None = None
    mode: OutputMode | None = None
    name: str | None = None
    version: Text | None = None


def _long_input(value: Any) -> Any:
    """Bring the short form of an input, a plain value, into the long one."""
    if isinstance(value, dict | JobInput):
        return value
    if not isinstance(value, str | int | float | bool):
        message = f"{'nothing' if value is None else 'a list'} is not a value"
        raise problem(message, "give a value, or a mapping with path")
    return {"value": value}


def _long_output(value: Any) -> Any:
    """Bring the short forms of an output, a binding or nothing, into the long one."""
    return {} if value is None else {"path": value} if isinstance(value, str) else value


InputValue = Annotated[JobInput, BeforeValidator(_long_input)]
OutputValue = Annotated[JobOutput, BeforeValidator(_long_output)]


class Filled(DefinitionModel):
    """A job or step with its inputs and outputs."""

    inputs: dict[str, InputValue] = Field(default_factory=dict)
    outputs: dict[str, OutputValue] = Field(default_factory=dict)


def declared_by(value: JobInput) -> InputDeclaration:
    """Derive the declaration of a pipeline job's input from what it is given."""
    if value.path is not None or value.value is None:
        return InputDeclaration.model_validate({"type": value.type or "uri_folder"})
    type_ = typed_text.name_of_type(value.value)
    return InputDeclaration.model_validate({"type": type_, "default": value.value})


def fits(source: str, target: str) -> bool:
    """Return whether an input of one type accepts a value or data of another. All types of data fit each other here."""
    if source == target or (target == "string" and source in VALUE_TYPES):
        return True
    if source in VALUE_TYPES or target in VALUE_TYPES:
        # A string may contain a number: its content is checked where it is known.
        return (source, target) == ("integer", "number") or (source == "string" and target in VALUE_TYPES)
    return True


def differ(source: str, target: str) -> bool:
    """Return whether a step that expects a folder gets a file, or the other way around."""
    return (source in _FILES and target in _FOLDERS) or (source in _FOLDERS and target in _FILES)


def literal_problem(value: Any, declared: InputDeclaration) -> tuple[str, str, str] | None:
    """Say why a literal does not fit an input: rule, message and suggestion; None if it fits.

    Azure ML turns text such as ``"3"`` into the declared type, so such text fits.
    """
    number = _convert(value, declared.type)
    if number is None:
        expected = typed_text.wanted(declared.type)
        return "input-type", f"{value!r} is not of type {declared.type}", f"write {expected}"
    if declared.enum and number not in [_convert(item, declared.type) for item in declared.enum]:
        valid = ", ".join(str(item) for item in declared.enum)
        return "input-enum", f"{value!r} is not one of the values of its enum", f"use one of: {valid}"
    if declared.type in ("integer", "number"):
        below = declared.min is not None and number < declared.min
        above = declared.max is not None and number > declared.max
        if below or above:
            low, high = ("-" if bound is None else bound for bound in (declared.min, declared.max))
            bounds = f"{low} to {high}"
            return "input-range", f"{value!r} is {'below min' if below else 'above max'}", f"use a value in {bounds}"
    return None


def literal_text(text: str, declared: InputDeclaration) -> str:
    """Return a value as a command gets it: a whole number without a decimal point, anything else as it is."""
    number = _convert(text, "integer") if declared.type == "integer" and not text.isdecimal() else None
    return text if number is None else str(number)


def default_text(value: Any, type_: str) -> str:
    """Write a component's default as Azure ML's SDK does for the service: 1 is 1.0 for a number, and for a string, too."""
    as_number = type_ == "number" or (type_ == "string" and type(value) is int)
    number = _convert(value, "number" if as_number else type_)
    if number is None:
        return str(value)
    return str(float(number) if as_number else number)


def _convert(value: Any, type_: str) -> Any:
    """Convert a value to a declared type; None if that is impossible."""
    if not isinstance(value, str | int | float):
        return None
    if type_ != "string" and not isinstance(value, str) and isinstance(value, bool) != (type_ == "boolean"):
        return None
    try:
        return typed_text.scalar(str(value), type_)
    except ValueError:
        return None
