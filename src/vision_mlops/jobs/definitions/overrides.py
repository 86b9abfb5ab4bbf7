"""Changes to a definition from the command line: ``--set inputs.seed=3`` lays a value over the file before it is checked."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

import yaml

from vision_mlops.core.errors import PipelineError
from vision_mlops.jobs.definitions.yaml_source import Mapping, Sequence

_ADDRESS = re.compile(r"[A-Za-z][\w+.-]+:")  # a scheme: azureml:, https:, file:


@dataclass(frozen=True)
class Change:
    """One key and its new value.

    Attributes:
        path: Keys from the top of the file.
        value: As YAML reads it.
        text: What was written, for messages.
        base: Folder that local paths in it are relative to.
    """

    path: tuple[str, ...]
    value: Any
    text: str
    base: Path


def parse_changes(items: Iterable[str], base: Path | None = None) -> list[Change]:
    """Read ``dotted.key=value`` texts.

    Args:
        items: The texts.
        base: Folder that local paths in them are relative to; the working directory by default.

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
        if not isinstance(value, str | int | float | dict | list | None):
            value = text.strip()  # a date, which no definition has a use for
        changes.append(Change(path, "" if value is None else value, item, base or Path.cwd()))
    return changes


def apply_changes(node: Mapping, changes: Iterable[Change], file: Path) -> None:
    """Lay changes over the content of a file.

    An input that is data takes the value as its path. Local paths are those of the change's own folder.

    Raises:
        PipelineError: there is no such step, input or output, or a key lies below a value.
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
                message = f"--set {change.text!r}: {key!r} of {file} holds a value, not keys"
                raise PipelineError(message, "see `mlops job show`")
            owner, parent = parent, child
        _require(change, len(parents), owner, parent, file)
        given = parent.get(last)
        value = change.value
        if parents and parents[-1] == "inputs" and _is_data(given) and not isinstance(value, dict):
            _put(given, "path", _absolute(value, change.base))
        else:
            ports = "inputs" in parents or "outputs" in parents
            local = ports and (last == "path" or isinstance(value, dict))
            _put(parent, last, _with_lines(_absolute(value, change.base) if local else value, parent.line))


def _require(change: Change, depth: int, owner: Mapping, parent: Mapping, file: Path) -> None:
    """Steps, inputs and outputs are named by the file: a change adds none, except what a step's component has."""
    if depth == 0:
        return
    kind, name = change.path[depth - 1], change.path[depth]
    if kind not in ("jobs", "inputs", "outputs") or name in parent:
        return
    if kind != "jobs" and ("component" in owner or "trial" in owner):
        return
    noun = {"jobs": "step", "inputs": "input", "outputs": "output"}[kind]
    of = f"{'.'.join(change.path[: depth - 1])} of {file}" if depth > 1 else str(file)
    near = difflib.get_close_matches(name, parent, n=1, cutoff=0.0)
    hint = f"did you mean {near[0]!r}? It has: {', '.join(parent)}" if near else f"it has no {noun}s"
    raise PipelineError(f"--set {change.text!r}: {of} has no {noun} {name!r}", hint)


def _is_data(given: Any) -> TypeGuard[Mapping]:
    return isinstance(given, Mapping) and "default" not in given and ("type" in given or "path" in given)


def _absolute(value: Any, base: Path) -> Any:
    """A local path as the shell means it: relative to the working directory, not to the file."""
    if isinstance(value, dict) and isinstance(value.get("path"), str):
        return {**value, "path": _absolute(value["path"], base)}
    if not isinstance(value, str) or not value or _ADDRESS.match(value) or value.startswith("${{"):
        return value
    return os.path.normpath(base / Path(value).expanduser())


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
