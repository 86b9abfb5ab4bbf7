"""Changes to a definition from the command line: ``--set inputs.seed=3`` lays a value over the file before it is checked."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from vision_mlops.exceptions import PipelineError
from vision_mlops.pipeline.source import Mapping, Sequence

_REMOTE = ("azureml:", "http://", "https://")


@dataclass(frozen=True)
class Change:
    """One key and its new value.

    Attributes:
        path: Keys from the top of the file.
        value: As YAML reads it.
        text: What was written, for messages.
    """

    path: tuple[str, ...]
    value: Any
    text: str


def parse_changes(items: Iterable[str]) -> list[Change]:
    """Read ``dotted.key=value`` texts.

    Raises:
        PipelineError: one has no ``=``, an empty key, or a value that is not YAML.
    """
    changes = []
    for item in items:
        key, equals, text = item.partition("=")
        path = tuple(key.strip().split("."))
        if not equals or not all(path):
            raise PipelineError(f"--set {item!r} is not of the form key=value", "for example --set inputs.seed=3")
        try:
            value = yaml.safe_load(text)
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            raise PipelineError(f"--set {item!r}: the value is not valid YAML", "quote text with signs") from error
        changes.append(Change(path, "" if value is None else value, item))
    return changes


def apply_changes(node: Mapping, changes: Iterable[Change], file: Path) -> None:
    """Lay changes over the content of a file.

    A job's input that is data takes the value as its path. Local paths are those of the working directory.

    Raises:
        PipelineError: a job is given an input that it does not have, or a key lies below a value.
    """
    for change in changes:
        *parents, last = change.path
        parent = node
        for key in parents:
            child = parent.get(key)
            if child is None:
                child = Mapping(parent.lines.get(key, parent.line))
                _put(parent, key, child)
            if not isinstance(child, Mapping):
                message = f"--set {change.text!r}: {key!r} of {file} holds a value, not keys"
                raise PipelineError(message, "see `mlops job show`")
            parent = child
        if change.path[0] == "inputs" and len(change.path) == 2:
            _set_input(parent, last, change, file)
        else:
            local = last == "path" or isinstance(change.value, dict)
            _put(parent, last, _with_lines(_absolute(change.value) if local else change.value, parent.line))


def _set_input(inputs: Mapping, name: str, change: Change, file: Path) -> None:
    if name not in inputs:
        near = difflib.get_close_matches(name, inputs, n=1, cutoff=0.0)
        hint = f"did you mean {near[0]!r}? It has: {', '.join(inputs)}" if near else "it has no inputs"
        raise PipelineError(f"--set {change.text!r}: {file} has no input {name!r}", hint)
    given = inputs[name]
    is_data = isinstance(given, Mapping) and "default" not in given and ("type" in given or "path" in given)
    if is_data and not isinstance(change.value, dict):
        _put(given, "path", _absolute(change.value))
    else:
        _put(inputs, name, _with_lines(change.value, inputs.line))


def _absolute(value: Any) -> Any:
    """A local path as the shell means it: relative to the working directory, not to the file."""
    if isinstance(value, dict) and isinstance(value.get("path"), str):
        return {**value, "path": _absolute(value["path"])}
    if not isinstance(value, str) or value.lower().startswith(_REMOTE) or "${{" in value:
        return value
    path = Path(value).expanduser()
    return str(path.resolve()) if path.exists() else value


def _put(parent: Mapping, key: str, value: Any) -> None:
    parent.lines.setdefault(key, parent.line)
    parent[key] = value


def _with_lines(value: Any, line: int) -> Any:
    """Plain YAML values as the reader of files gives them, all on one line."""
    if isinstance(value, dict):
        mapping = Mapping(line)
        for key, item in value.items():
            mapping[str(key)], mapping.lines[str(key)] = _with_lines(item, line), line
        return mapping
    if isinstance(value, list):
        sequence = Sequence(line)
        sequence.extend(_with_lines(item, line) for item in value)
        sequence.lines.extend(line for _ in value)
        return sequence
    return value
