"""Finds the type of the target of a change: what a component or model declares, or else the type of the present value."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from collections.abc import Mapping as AnyMapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from vision_mlops.core import typed_text
from vision_mlops.jobs.definitions.expressions import sole
from vision_mlops.jobs.definitions.models.ports import VALUE_TYPES
from vision_mlops.jobs.definitions.yaml_source import Mapping

_TEXTS = frozenset({"tags", "properties", "environment_variables"})  # whose values are text for Azure ML


@dataclass(frozen=True)
class Schema:
    """What is known of the types in a file.

    Attributes:
        models: What the file may define.
        parts: Models of keys that contain a definition of their own, such as ``trial``.
        component: Returns the content of a component that a step names; None if it is not on this machine.
    """

    models: Sequence[type[BaseModel]] = ()
    parts: AnyMapping[str, Sequence[type[BaseModel]]] = field(default_factory=dict)
    component: Callable[[str], Mapping | None] = lambda reference: None


def input_type(root: Mapping, owner: Mapping, name: str, schema: Schema) -> str:
    """Return the type of an input of a job or step; empty if it is unknown.

    Args:
        root: Content of the file.
        owner: The job or step in it.
        name: Name of the input, which need not be given yet.
        schema: Finds components.
    """
    declared = set(_declared(root, owner, name, schema))
    if len(declared) == 1:
        return declared.pop()
    given = at(owner, "inputs", name)
    if (reference := sole(at(given, "path") or given)) is not None:
        if reference.parts[:2] != ("parent", "inputs"):
            return "uri_folder"  # what another step writes
        given = at(root, "inputs", reference.parts[-1])
    if isinstance(given, Mapping) and "value" not in given:
        return str(given.get("type", "uri_folder"))
    # A present whole number does not mean that only whole numbers are accepted.
    type_ = typed_text.name_of_type(at(given, "value") if isinstance(given, Mapping) else given)
    return "number" if type_ == "integer" else type_


def _declared(root: Mapping, owner: Mapping, name: str, schema: Schema) -> Iterator[str]:
    """Yield the types of the component inputs that are bound to an input."""
    part = owner.get("component", owner.get("trial"))
    content = schema.component(part) if isinstance(part, str) else part
    if content is not None:
        type_ = at(content, "inputs", name, "type")
        yield from (type_,) if isinstance(type_, str) else ()
        return
    steps = owner.get("jobs")
    for step in steps.values() if owner is root and isinstance(steps, Mapping) else ():
        inputs = at(step, "inputs")
        for key, value in inputs.items() if isinstance(inputs, Mapping) else ():
            reference = sole(at(value, "path") or value)
            if reference is not None and reference.parts == ("parent", "inputs", name):
                yield from _declared(root, step, key, schema)


def key_types(root: Mapping, path: Sequence[str], schema: Schema) -> frozenset[str]:
    """Return the types that a key other than an input accepts, as :func:`~vision_mlops.core.typed_text.accepted` does."""
    if _TEXTS & set(path[:-1]):
        return frozenset({"string"})
    names = {name for model in schema.models for name in typed_text.accepted(model, path, schema.parts)}
    if "any" not in names:
        return frozenset(names)
    parent = at(root, *path[:-1])
    declared = at(parent, "type") if path[-1] == "default" else None
    found = declared if declared in VALUE_TYPES else typed_text.name_of_type(at(parent, path[-1]))
    return frozenset({found or "string"})


def at(node: Any, *path: str) -> Any:
    """Return the value at a path of keys; None if there is none."""
    for key in path:
        node = node.get(key) if isinstance(node, dict) else None
    return node
