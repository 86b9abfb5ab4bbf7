"""Writes YAML in which a text stays a text for every reader, whether it follows YAML 1.1 or 1.2."""

from __future__ import annotations

import re
from typing import Any

import yaml

# Numbers of YAML 1.2 that PyYAML, which follows 1.1, takes for text and would not quote: 1e3, 0o10.
_NUMBER = re.compile(r"[-+]?(0o[0-7]+|(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?)")


class _Dumper(yaml.SafeDumper):
    """PyYAML's, which quotes what YAML 1.1 reads as something else than text."""


def _text(dumper: _Dumper, value: str) -> yaml.ScalarNode:
    style = "'" if _NUMBER.fullmatch(value) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _text)


def write_yaml(content: Any, *, width: int = 80) -> str:
    """Plain values as YAML, keys in their order.

    Args:
        content: Mappings, lists, texts, numbers, truth values and None.
        width: Signs in a line, after which long texts go on in the next one.
    """
    return yaml.dump(content, Dumper=_Dumper, sort_keys=False, width=width)
