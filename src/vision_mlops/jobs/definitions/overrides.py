"""Changes to a definition from the command line: ``--set inputs.seed=3`` replaces a value before the file is checked."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import yaml

from vision_mlops.core import typed_text
from vision_mlops.core.errors import PipelineError
from vision_mlops.core.text import nearest
from vision_mlops.jobs.definitions.change_targets import Schema, input_type, key_types
from vision_mlops.jobs.definitions.models.ports import VALUE_TYPES, JobInput
from vision_mlops.jobs.definitions.yaml_source import Mapping
from vision_mlops.jobs.definitions.yaml_source import Sequence as YamlList

_PORTS = ("inputs", "outputs")
_LONG_FORM = frozenset(JobInput.model_fields)
# A scheme. "Client: A" is the name of a folder.
_ADDRESS = re.compile(r"[a-z][\w+.-]*://|azureml:|file:", re.IGNORECASE)


@dataclass(frozen=True)
class Change:
    """One key and its new value.

    Attributes:
        path: Keys from the top of the file.
        value: The value as it was typed; its target determines the type.
        text: The whole argument, for messages.
        base: Folder that local paths in it are relative to.
    """

    path: tuple[str, ...]
    value: str
    text: str
    base: Path


def parse_changes(items: Iterable[str], base: Path | None = None) -> list[Change]:
    """Read ``dotted.key=value`` texts.

    Args:
        items: The texts.
        base: Folder that local paths in them are relative to; the working directory by default.

    Raises:
        PipelineError: one has no ``=``, or an empty key.
    """
    changes = []
    for item in items:
        key, equals, text = item.partition("=")
        path = tuple(key.strip().split("."))
        if not equals or not all(path):
            raise PipelineError(f"--set {item!r} is not of the form key=value", "for example --set inputs.seed=3")
        changes.append(Change(path, text, item, base or Path.cwd()))
    return changes


def apply_changes(node: Mapping, changes: Iterable[Change], file: Path, schema: Schema | None = None) -> None:
    """Apply changes to the content of a file.

    A value is converted to the type of its target: the declared one, or else that of the value it replaces. Only lists and
    mappings are YAML. For an input that is data, the value is its path. Local paths start from its own folder.

    Args:
        node: The content.
        changes: Applied in this order.
        file: For messages.
        schema: What is known of its types.

    Raises:
        PipelineError: a step, input or output does not exist, a key is below a value, or a value has the wrong type.
    """
    for change in changes:
        *parents, last = change.path
        parent: Mapping = node
        owner: Mapping = node
        for depth, key in enumerate(parents):
            _require(change, depth, owner, parent, file)
            child = parent.get(key)
            if child is None:
                child = Mapping(parent.lines.get(key, parent.line))
                _put(parent, key, child)
            if not isinstance(child, Mapping):
                message = f"--set {change.text!r}: {key!r} of {file} is a value, not a mapping"
                raise PipelineError(message, "see `mlops job show`")
            owner, parent = parent, child
        _require(change, len(parents), owner, parent, file)
        if parents and parents[-1] == "inputs":
            _put(parent, last, _of_input(change, node, owner, parent, schema or Schema()))
        elif _is_port(parents[:-1]) and last == "path":
            _put(parent, last, _absolute(change.value, change.base))
        else:
            _put(parent, last, _of_key(change, node, parent, schema or Schema()))


def _require(change: Change, depth: int, owner: Mapping, parent: Mapping, file: Path) -> None:
    """Check that a change adds no step, input or output, except an input or output of a step's component."""
    if depth == 0:
        return
    kind, name = change.path[depth - 1], change.path[depth]
    if kind not in ("jobs", *_PORTS) or name in parent:
        return
    if kind != "jobs" and ("component" in owner or "trial" in owner):
        return
    noun = {"jobs": "step", "inputs": "input", "outputs": "output"}[kind]
    of = f"{'.'.join(change.path[: depth - 1])} of {file}" if depth > 1 else str(file)
    hint = nearest(name, parent, f"it has no {noun}s", listed="It has")
    raise PipelineError(f"--set {change.text!r}: {of} has no {noun} {name!r}", hint)


def _is_port(path: Sequence[str]) -> bool:
    return bool(path) and path[-1] in _PORTS


def _of_input(change: Change, root: Mapping, owner: Mapping, inputs: Mapping, schema: Schema) -> Any:
    """Return what an input is given: a value or, if its type is one of data, a path."""
    name, text = change.path[-1], change.value
    given = inputs.get(name)
    if "${{" in text:
        return text
    type_ = input_type(root, owner, name, schema)
    if type_ in VALUE_TYPES:
        value = _scalar(change, type_)
        return _with(given, "value", value) if isinstance(given, Mapping) and "value" in given else value
    if (content := _long_form(text)) is not None:
        return _with_lines(_absolute_path(content, change), change, inputs.line)
    if not type_:
        return text
    data = given if isinstance(given, Mapping) else _with(Mapping(inputs.line), "type", type_)
    return _with(data, "path", _absolute(text, change.base))


def _of_key(change: Change, root: Mapping, parent: Mapping, schema: Schema) -> Any:
    """Return the value of a key that is not an input."""
    if "${{" in change.value:
        return change.value
    names = key_types(root, change.path, schema)
    if len(names) == 1 and names <= VALUE_TYPES:
        return _scalar(change, next(iter(names)))
    try:
        value = typed_text.read_typed(change.value, names)
    except ValueError as error:
        message = f"--set {change.text!r}: the value is not valid YAML"
        raise PipelineError(message, "quote text that contains special characters") from error
    local = _is_port(change.path[:-1]) and isinstance(value, dict)
    return _with_lines(_absolute_path(value, change) if local else value, change, parent.line)


def _scalar(change: Change, type_: str) -> str | int | float | bool:
    try:
        return typed_text.scalar(change.value, type_)
    except ValueError:
        message = f"--set {change.text!r}: {change.value!r} is not of type {type_}"
        raise PipelineError(message, f"write {typed_text.wanted(type_)}") from None


def _long_form(text: str) -> dict[str, Any] | None:
    """Read ``{type: uri_folder, path: photos}`` as a mapping; None for other text, such as a path with a brace."""
    try:
        content = yaml.safe_load(text) if text.lstrip().startswith("{") else None
    except (yaml.YAMLError, ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) and content and set(content) <= _LONG_FORM else None


def _absolute_path(content: dict[str, Any], change: Change) -> dict[str, Any]:
    path = content.get("path")
    return {**content, "path": _absolute(path, change.base)} if isinstance(path, str) else content


def _absolute(value: str, base: Path) -> str:
    """Resolve a local path as the shell does: relative to the working directory, not to the file."""
    if not value or _ADDRESS.match(value) or value.startswith("${{"):
        return value
    # Path.expanduser fails for ~x if there is no user x, and expands ./~x, too.
    return os.path.normpath(base / os.path.expanduser(value))  # noqa: PTH111


def _with(mapping: Mapping, key: str, value: Any) -> Mapping:
    _put(mapping, key, value)
    return mapping


def _put(parent: Mapping, key: str, value: Any) -> None:
    parent.lines.setdefault(key, parent.line)
    parent[key] = value


def _with_lines(value: Any, change: Change, line: int) -> Any:
    """Convert plain YAML values to what the reader of files returns, all on one line."""
    if isinstance(value, dict):
        mapping = Mapping(line)
        for key, item in value.items():
            mapping[str(key)], mapping.lines[str(key)] = _with_lines(item, change, line), line
        return mapping
    if isinstance(value, list):
        sequence = YamlList(line)
        sequence.extend(_with_lines(item, change, line) for item in value)
        sequence.lines.extend(line for _ in value)
        return sequence
    if isinstance(value, date):
        raise PipelineError(f"--set {change.text!r}: {value} is read as a date, not as text", f"write '{value}'")
    return value
