"""Parses user input by the type that its target declares. Where text is wanted, it is never parsed as YAML.

``no``, ``010`` and ``lot #2`` stay as they are in a text, ``1e-5`` is a number, and ``{epochs: 2}`` is a mapping only
where a mapping is wanted.
"""

from __future__ import annotations

import math
import re
import types
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Annotated, Any, Literal, Union, get_args, get_origin

_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")
_NAMES: dict[Any, str] = {
    str: "string",
    bool: "boolean",
    int: "integer",
    float: "number",
    list: "list",
    dict: "mapping",
}
_SCALARS = frozenset({"string", "boolean", "integer", "number"})
_WORDS = {"integer": "a whole number", "number": "a number", "boolean": "true or false"}


def integer(text: str) -> int:
    """Parse a whole number in decimal digits; ``3.0`` is one. Raises ValueError."""
    number = decimal(text)
    if isinstance(number, float) and not number.is_integer():
        raise ValueError(f"{text!r} is not a whole number")
    return int(number)


def decimal(text: str) -> int | float:
    """Parse a number in decimal digits, whole if it has neither point nor exponent. Raises ValueError."""
    match = _NUMBER.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a number")
    number = float(text) if match[2] or match[3] or text.strip().lstrip("+-").startswith(".") else int(text)
    if isinstance(number, float) and not math.isfinite(number):
        raise ValueError(f"{text!r} is too large")
    return number


def boolean(text: str) -> bool:
    """Parse ``true`` or ``false`` in any case, which is what the SDK of Azure ML accepts. Raises ValueError."""
    if text.strip().lower() not in ("true", "false"):
        raise ValueError(f"{text!r} is not true or false")
    return text.strip().lower() == "true"


def scalar(text: str, type_: str) -> str | int | float | bool:
    """Parse a text as ``string``, ``integer``, ``number`` or ``boolean``.

    Raises:
        ValueError: it is none, in words.
    """
    readers = {"integer": integer, "number": decimal, "boolean": boolean}
    return readers[type_](text) if type_ in readers else text


def wanted(type_: str) -> str:
    """Describe in words what to write for a type."""
    return _WORDS.get(type_, "text")


def name_of_type(value: object) -> str:
    """Return the name of the type of a value, as :func:`accepted` gives it; empty if it has none."""
    return next((name for kind, name in _NAMES.items() if type(value) is kind), "")


def read_typed(text: str, names: Collection[str]) -> Any:
    """Parse a text as the first of some types that it can be; return it unchanged if it can be none of them.

    If text and all other scalars are accepted, it stays text. If ``list`` or ``mapping`` is among the types, text that
    begins like one is YAML. Empty text and ``null`` are None if no text is wanted.

    Args:
        text: As it was typed.
        names: Types, as :func:`accepted` gives them.

    Raises:
        ValueError: it begins like a list or mapping, and is not valid YAML.
    """
    structured = {"list": "[", "mapping": "{"}
    begins = tuple(sign for name, sign in structured.items() if name in names)
    only = begins and not _SCALARS & set(names)
    if begins and (only or text.lstrip().startswith(begins)):
        import yaml

        from vision_mlops.core.errors import problem_of_file
        from vision_mlops.core.yaml_text import read_yaml

        try:
            found = read_yaml(text)
        except (yaml.YAMLError, RecursionError) as error:
            raise ValueError(f"not valid YAML: {problem_of_file(error)}") from error
        if (isinstance(found, list) and "list" in names) or (isinstance(found, dict) and "mapping" in names):
            return found
    for type_ in () if set(names) >= _SCALARS else ("boolean", "integer", "number"):
        if type_ in names:
            with suppress(ValueError):
                return scalar(text, type_)
    if names and "string" not in names and text.strip() in ("", "~", "null"):
        return None
    return text


def accepted(model: Any, path: Sequence[str], parts: Mapping[str, Sequence[Any]] | None = None) -> frozenset[str]:
    """Name the types that a key accepts; nothing if the key does not exist, ``any`` if it accepts everything.

    Args:
        model: Pydantic model, or another annotation.
        path: Keys, from the top.
        parts: Models of keys that are declared as no more than a mapping.
    """
    found = [model]
    for depth, key in enumerate(path, 1):
        found = [item for annotation in found for item in _below(annotation, key)]
        if found and depth < len(path):
            found = list((parts or {}).get(key, found))
    return frozenset(name for annotation in found for branch in _branches(annotation) for name in _names(branch))


def _branches(annotation: Any) -> Iterator[Any]:
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from _branches(get_args(annotation)[0])
    elif origin in (Union, types.UnionType):
        for part in get_args(annotation):
            yield from _branches(part)
    else:
        yield annotation


def _below(annotation: Any, key: str) -> Iterator[Any]:
    for branch in _branches(annotation):
        if branch is Any:
            yield Any
        elif get_origin(branch) is dict:
            yield get_args(branch)[1]
        elif (fields := getattr(branch, "model_fields", None)) is not None:
            yield from (item.annotation for name, item in fields.items() if key == (item.alias or name))


def _names(branch: Any) -> Iterator[str]:
    if branch is Any:
        yield "any"
    elif branch is type(None):
        yield "nothing"
    elif get_origin(branch) is Literal:
        yield from (name_of_type(value) for value in get_args(branch))
    elif hasattr(branch, "model_fields"):
        yield "mapping"
    else:
        yield _NAMES.get(get_origin(branch) or branch, "any")
