"""Reads definitions so that every key and value keeps its line, and refuses what cannot be one before it does harm.

Aliases count each time they are used, so that a few lines which expand to millions of values are refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from vision_mlops.core.errors import problem_of_file
from vision_mlops.jobs.definitions.findings import Findings

CONDA_EXAMPLE = "write `name:` and `dependencies:`, as `conda env export` does"
ENVIRONMENT_EXAMPLE = "write `image:` or `build:`, as in environments/train.yml"
_MAX_BYTES = 256_000
_MAX_NODES = 20_000
_MAX_DEPTH = 50
_TAG = "tag:yaml.org,2002:"
_SCALARS = frozenset(_TAG + kind for kind in ("str", "int", "float", "bool", "null"))


class Mapping(dict[str, Any]):
    """A mapping of the file: ``line`` is where it begins, ``lines`` has the line of each key.

    ``written`` has the text in the file of numbers and booleans that Python writes differently: ``no``, ``010``.
    """

    def __init__(self, line: int) -> None:
        super().__init__()
        self.line = line
        self.lines: dict[str, int] = {}
        self.written: dict[str, str] = {}


class Sequence(list[Any]):
    """A list of the file, with the line of each item."""

    def __init__(self, line: int) -> None:
        super().__init__()
        self.line = line
        self.lines: list[int] = []


def line_at(node: Any, *path: str | int) -> int:
    """Return the line of the deepest part of ``path`` that exists below ``node``."""
    line = node.line if isinstance(node, Mapping | Sequence) else 1
    for part in path:
        inside = part in node if isinstance(node, Mapping) else isinstance(node, Sequence) and part in range(len(node))
        if inside:
            line, node = node.lines[part], node[part]
        else:
            break
    return int(line)


def texts(node: Any, line: int = 1) -> Iterator[tuple[str, int]]:
    """Yield every text value below ``node`` with its line."""
    if isinstance(node, str):
        yield node, line
    elif isinstance(node, Mapping):
        for key, value in node.items():
            yield from texts(value, node.lines[key])
    elif isinstance(node, Sequence):
        for value, at in zip(node, node.lines, strict=True):
            yield from texts(value, at)


def read(path: Path, findings: Findings) -> Mapping | None:
    """Read one definition; return None, with at least one error in ``findings``, if that is impossible."""
    try:
        if not path.is_file():
            missing = "this is not a file" if path.exists() else "the file does not exist"
            fix = "give the path of a .yml file"
            if not path.exists() and path.name == str(path) and not path.suffix:
                fix += f"; for a job of this name, use `mlops job list` and `mlops job logs {path}`"
            findings.report(path, 1, "file", "this is a folder" if path.is_dir() else missing, fix)
            return None
        with path.open("rb") as stream:
            content = stream.read(_MAX_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the path
        problem = f"the file cannot be read: {problem_of_file(error)}"
        findings.report(path, 1, "file", problem, "check the path and its permissions")
        return None
    if len(content) > _MAX_BYTES:
        findings.report(
            path, 1, "file", f"the file has more than {_MAX_BYTES} bytes", "a definition is a short text file"
        )
        return None
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        findings.report(path, line, "file", f"not UTF-8 text: byte {error.start} is {error.reason}", "save it as UTF-8")
        return None
    return _Reader(path, findings).read(text)


class _TooLargeError(Exception):
    pass


class _Reader:
    def __init__(self, path: Path, findings: Findings) -> None:
        self._path = path
        self._findings = findings
        self._nodes = 0
        self._open: set[int] = set()

    def read(self, text: str) -> Mapping | None:
        try:
            loader = yaml.SafeLoader(text)
            root = loader.get_single_node()
        except yaml.MarkedYAMLError as error:
            mark, opened, fix = error.problem_mark or error.context_mark, error.context_mark, "fix this line"
            line, written = mark.line + 1 if mark else 1, text.rstrip()
            if mark is not None and mark.index >= len(written):  # the end of the file is where it is noticed
                line = written.count("\n") + 1
                if opened is not None and opened.index < len(written):
                    line, fix = opened.line + 1, "close what opens on this line"
            problem = str(error.problem).replace("'<stream end>'", "the end of the file")
            self._error(line, "yaml", f"not valid YAML: {problem}", fix)
            return None
        except yaml.YAMLError as error:  # a control character
            self._error(1, "yaml", f"not valid YAML: {' '.join(str(error).split())}", "save it as plain text")
            return None
        except RecursionError:
            self._error(1, "yaml", "the values are nested too deeply", "use fewer levels")
            return None
        if not isinstance(root, yaml.MappingNode):
            what = "empty" if root is None else "a list" if isinstance(root, yaml.SequenceNode) else "a single value"
            line = root.start_mark.line + 1 if root is not None else 1
            self._error(
                line, "yaml", f"the file is {what}, not a mapping of keys to values", "begin with `$schema: ...`"
            )
            return None
        before = len(self._findings.errors)
        try:
            content = self._mapping(loader, root, 0)
        except _TooLargeError as error:
            self._error(root.start_mark.line + 1, "yaml", str(error), "write it without aliases within aliases")
            return None
        return content if len(self._findings.errors) == before else None

    def _error(self, line: int, rule: str, message: str, suggestion: str) -> None:
        self._findings.report(self._path, line, rule, message, suggestion)

    def _value(self, loader: yaml.SafeLoader, node: yaml.Node, depth: int) -> Any:
        self._nodes += 1
        if self._nodes > _MAX_NODES:
            raise _TooLargeError(f"the file expands to more than {_MAX_NODES} values")
        if depth > _MAX_DEPTH:
            raise _TooLargeError(f"the values are nested more than {_MAX_DEPTH} deep")
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(loader, node)
        if id(node) in self._open:
            raise _TooLargeError("an alias contains itself")
        self._open.add(id(node))
        if isinstance(node, yaml.MappingNode):
            result: Any = self._mapping(loader, node, depth)
        else:
            result = Sequence(node.start_mark.line + 1)
            for item in node.value:
                result.append(self._value(loader, item, depth + 1))
                result.lines.append(item.start_mark.line + 1)
        self._open.discard(id(node))
        return result

    def _scalar(self, loader: yaml.SafeLoader, node: yaml.ScalarNode) -> Any:
        line = node.start_mark.line + 1
        if node.tag not in _SCALARS:
            if node.tag == _TAG + "timestamp":  # the SDK would read a date, but its models expect text
                self._error(line, "yaml", f"{node.value} is read as a date, not as text", f'write "{node.value}"')
                return None
            name = node.tag.replace(_TAG, "!!")
            self._error(line, "yaml", f"the tag {name} has no meaning in a definition", "write plain text")
            return None
        try:
            return loader.construct_object(node)
        except (yaml.YAMLError, ValueError):
            self._error(line, "yaml", f"{str(node.value)[:40]!r} cannot be read as a number", "quote it")
            return None

    def _mapping(self, loader: yaml.SafeLoader, node: yaml.MappingNode, depth: int) -> Mapping:
        result = Mapping(node.start_mark.line + 1)
        merged: list[Mapping] = []
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if key_node.tag == _TAG + "merge":
                value = self._value(loader, value_node, depth + 1)
                parts = value if isinstance(value, Sequence) else [value]
                merged += [part for part in parts if isinstance(part, Mapping)]
                if any(not isinstance(part, Mapping) for part in parts):
                    self._error(
                        line, "yaml", "<< must be a mapping or a list of mappings", "write the alias of a mapping"
                    )
                continue
            key = self._scalar(loader, key_node) if isinstance(key_node, yaml.ScalarNode) else None
            if not isinstance(key, str):
                shown = key_node.value if isinstance(key_node, yaml.ScalarNode) else "a list or mapping"
                self._error(line, "yaml", f"the key {shown} is not text", "quote it")
            elif key in result:
                first = result.lines[key]
                message = f"the key {key!r} is given twice, first in line {first}"
                self._findings.report(
                    self._path, line, "duplicate-key", message, "remove one; Azure ML uses the last one"
                )
            if isinstance(key, str):
                value = result[key] = self._value(loader, value_node, depth + 1)
                result.lines[key] = line
                if isinstance(value, bool | int | float) and str(value) != value_node.value:
                    result.written[key] = str(value_node.value)
        for part in merged:
            for key in part:
                if key not in result:
                    result[key], result.lines[key] = part[key], part.lines[key]
                    if key in part.written:
                        result.written[key] = part.written[key]
        return result
