"""Parameters of pipelines and templates: declared, given, checked and converted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from testing.support.azure_pipelines.expression_values import (
    NotConvertibleError,
    Value,
    equal,
    is_list,
    to_number,
    to_text,
)
from testing.support.azure_pipelines.pipeline_errors import PipelineError

_MAPPINGS = ("step", "job", "deployment", "stage")
_LISTS = ("stepList", "jobList", "deploymentList", "stageList", "stringList")
TYPES = ("string", "number", "boolean", "object", *_MAPPINGS, *_LISTS)
_KEYS = ("name", "displayName", "type", "default", "values")
_MISSING = object()


@dataclass(frozen=True)
class Parameter:
    """One that a file declares."""

    name: str
    type: str = "string"
    default: Any = _MISSING
    values: tuple[Value, ...] = ()

    @property
    def required(self) -> bool:
        """Whether it must be given."""
        return self.default is _MISSING

    def taken(self, value: Value, where: str) -> Value:
        """The value in the parameter's type.

        Raises:
            PipelineError: it is not of that type, or not one of the allowed ones.
        """
        converted = self._converted(value, where)
        if self.values and not any(equal(allowed, converted) for allowed in self.values):
            allowed = ", ".join(map(str, self.values))
            raise PipelineError(f"{where}: the parameter {self.name} is {value!r}, and must be one of {allowed}")
        return converted

    def _converted(self, value: Value, where: str) -> Value:
        wrong = PipelineError(f"{where}: the parameter {self.name} is not a {self.type}: {value!r}")
        if self.type == "object":
            return value
        if self.type in _LISTS:
            if value == "":
                return []
            if not is_list(value):
                raise wrong
            return value
        if self.type in _MAPPINGS:
            if not isinstance(value, Mapping):
                raise wrong
            return value
        try:
            if self.type == "number":
                if not isinstance(value, Decimal | str) or value == "":
                    raise wrong
                return to_number(value)
            text = to_text(value)
        except NotConvertibleError as error:
            raise wrong from error
        if self.type == "string":
            return text
        if text.lower() not in ("true", "false"):
            raise wrong
        return text.lower() == "true"


def declared(tree: Any, where: str) -> list[Parameter]:
    """The parameters of a file, from the list or the mapping below ``parameters``."""
    if not tree:
        return []
    if isinstance(tree, dict):
        return [Parameter(name, "object", default) for name, default in tree.items()]
    found = []
    for item in tree:
        unknown = sorted(set(item) - set(_KEYS))
        kind = item.get("type", "string")
        if unknown or "name" not in item:
            raise PipelineError(f"{where}: a parameter has {', '.join(unknown) or 'no name'}")
        if kind not in TYPES:
            raise PipelineError(f"{where}: the parameter {item['name']} has the unknown type {kind}")
        found.append(Parameter(item["name"], kind, item.get("default", _MISSING), tuple(item.get("values", ()))))
    names = [parameter.name.lower() for parameter in found]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise PipelineError(f"{where}: the parameter {', '.join(sorted(twice))} is declared twice")
    return found


def bound(parameters: list[Parameter], given: Mapping[str, Value], where: str) -> dict[str, Value]:
    """The values of the parameters, given or by default.

    Raises:
        PipelineError: one is missing, unknown or wrong.
    """
    wanted = {name.lower(): value for name, value in given.items()}
    unknown = sorted(set(wanted) - {parameter.name.lower() for parameter in parameters})
    if unknown:
        raise PipelineError(f"{where}: unexpected parameter {', '.join(unknown)}")
    values = {}
    for parameter in parameters:
        value = wanted.get(parameter.name.lower(), parameter.default)
        if value is _MISSING:
            raise PipelineError(f"{where}: a value for the parameter {parameter.name} must be provided")
        values[parameter.name] = parameter.taken(value, where)
    return values
