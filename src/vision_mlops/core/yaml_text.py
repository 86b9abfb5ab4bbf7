"""Reads YAML and JSON, which may give a key only once, and writes YAML in which a text stays a text for every reader.

Readers follow YAML 1.1 or 1.2, and take other texts for numbers.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml

from vision_mlops.core.errors import PipelineError, problem_of_file

# Numbers of YAML 1.2 that PyYAML, which follows 1.1, takes for text and would not quote: 1e3, 0o10.
_NUMBER = re.compile(r"[-+]?(0o[0-7]+|(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?)")


class _Loader(yaml.SafeLoader):
    """PyYAML's, which would let the last of two values of one key win."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        lines: dict[str, int] = {}
        for key, _ in node.value:
            # By their text: 1 and "1" name the same key. ``<<`` may come twice.
            if not isinstance(key, yaml.ScalarNode) or key.tag == "tag:yaml.org,2002:merge":
                continue
            if key.value in lines:
                first = f"first in line {lines[key.value]}"
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key.value!r} is given twice, {first}; remove one of them", key.start_mark
                )
            lines[key.value] = key.start_mark.line + 1
        return node


class _Dumper(yaml.SafeDumper):
    """PyYAML's, which quotes what YAML 1.1 reads as something else than text."""


def _text(dumper: _Dumper, value: str) -> yaml.ScalarNode:
    style = "'" if _NUMBER.fullmatch(value) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _text)


def read_yaml(text: str) -> Any:
    """Parse one document to plain values.

    Raises:
        yaml.YAMLError: it is not valid, or a mapping gives a key twice; names the line.
        ValueError: a date or number is impossible.
        RecursionError: it is nested too deeply.
    """
    return yaml.load(text, Loader=_Loader)


def read_mapping(
    file: Path, what: str = "", hint: str = "fix the file", *, may_be_empty: bool = False
) -> dict[str, Any]:
    """Read a YAML file that holds a mapping.

    Args:
        file: The file.
        what: How errors call it; its path by default.
        hint: What to do if it holds something else.
        may_be_empty: Whether an empty file is an empty mapping.

    Raises:
        PipelineError: it cannot be read, is not YAML, or not a mapping.
    """
    try:
        content = read_yaml(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        fix = "check the path" if isinstance(error, OSError) else "fix the file"
        raise PipelineError(f"{what or file} cannot be read: {problem_of_file(error)}", fix) from error
    if content is None and may_be_empty:
        return {}
    if not isinstance(content, dict):
        raise PipelineError(f"{what or file} is not a mapping of keys to values", hint)
    return content


def read_json(text: str) -> Any:
    """Parse JSON to plain values. Raises ValueError if it is not valid or an object gives a key twice."""
    return json.loads(text, object_pairs_hook=_object)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice!r} is given twice; remove one of them")
    return found


def write_yaml(content: Any, *, width: int = 80) -> str:
    """Write plain values as YAML, with keys in their order.

    Args:
        content: Mappings, lists, texts, numbers, truth values and None.
        width: Signs in a line, after which long texts go on in the next one.
    """
    return yaml.dump(content, Dumper=_Dumper, sort_keys=False, width=width)
