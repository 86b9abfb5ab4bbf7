"""Functions of expressions, as Microsoft's documentation describes them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from decimal import Decimal

from testing.support.azure_pipelines.expression_values import (
    NotConvertibleError,
    Value,
    compared,
    equal,
    is_list,
    to_bool,
    to_number,
    to_text,
)
from testing.support.azure_pipelines.pipeline_errors import PipelineError

_FORMAT = re.compile(r"\{\{|\}\}|\{(\d+)(?::([^}]*))?\}|[{}]")


def _text(value: Value) -> str:
    try:
        return to_text(value)
    except NotConvertibleError as error:
        raise PipelineError(str(error)) from error


def _lowered(value: Value) -> str:
    return _text(value).lower()


def _contains_value(holder: Value, value: Value) -> bool:
    items = list(holder.values()) if isinstance(holder, Mapping) else holder
    if not is_list(items):
        raise PipelineError("containsValue takes a list or an object")
    return any(equal(value, item) for item in items)


def _format(pattern: Value, *values: Value) -> str:
    def put(found: re.Match[str]) -> str:
        if found[0] in ("{{", "}}"):
            return found[0][0]
        if found[1] is None:
            raise PipelineError(f"a single {found[0]!r} in the format {pattern!r}")
        if int(found[1]) >= len(values):
            raise PipelineError(f"the format {pattern!r} has no value for {found[0]}")
        return _text(values[int(found[1])])

    return _FORMAT.sub(put, _text(pattern))


def _join(separator: Value, items: Value) -> str:
    if not is_list(items):
        return "" if isinstance(items, Mapping) else _text(items)
    return _text(separator).join("" if isinstance(item, Mapping) or is_list(item) else _text(item) for item in items)


def _coalesce(*values: Value) -> Value:
    return next((value for value in values if value is not None and value != ""), None)


def _length(value: Value) -> Decimal:
    if is_list(value) or isinstance(value, Mapping):
        return Decimal(len(value))
    return Decimal(len(_text(value)))


def _plain(value: Value) -> object:
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    if is_list(value):
        return [_plain(item) for item in value]
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    return value if isinstance(value, bool | str) or value is None else str(value)


def _xor(left: Value, right: Value) -> bool:
    return to_bool(left) != to_bool(right)


Function = tuple[int, int | None, Callable[..., Value]]
"""The fewest and the most arguments, and what it does with them."""

FUNCTIONS: dict[str, Function] = {
    "and": (2, None, lambda *values: all(map(to_bool, values))),
    "or": (2, None, lambda *values: any(map(to_bool, values))),
    "not": (1, 1, lambda value: not to_bool(value)),
    "xor": (2, 2, _xor),
    "eq": (2, 2, equal),
    "ne": (2, 2, lambda left, right: not equal(left, right)),
    "gt": (2, 2, lambda left, right: compared(left, right) > 0),
    "ge": (2, 2, lambda left, right: compared(left, right) >= 0),
    "lt": (2, 2, lambda left, right: compared(left, right) < 0),
    "le": (2, 2, lambda left, right: compared(left, right) <= 0),
    "in": (2, None, lambda left, *others: any(equal(left, other) for other in others)),
    "notin": (2, None, lambda left, *others: not any(equal(left, other) for other in others)),
    "contains": (2, 2, lambda text, part: _lowered(part) in _lowered(text)),
    "startswith": (2, 2, lambda text, part: _lowered(text).startswith(_lowered(part))),
    "endswith": (2, 2, lambda text, part: _lowered(text).endswith(_lowered(part))),
    "containsvalue": (2, 2, _contains_value),
    "format": (1, None, _format),
    "join": (2, 2, _join),
    "coalesce": (2, None, _coalesce),
    "length": (1, 1, _length),
    "lower": (1, 1, _lowered),
    "upper": (1, 1, lambda value: _text(value).upper()),
    "trim": (1, 1, lambda value: _text(value).strip()),
    "replace": (3, 3, lambda text, old, new: _text(text).replace(_text(old), _text(new))),
    "split": (2, 2, lambda text, marks: re.split(f"[{re.escape(_text(marks))}]", _text(text))),
    "iif": (3, 3, lambda condition, then, otherwise: then if to_bool(condition) else otherwise),
    "converttojson": (1, 1, lambda value: json.dumps(_plain(value), indent=2)),
}
LAZY = ("and", "or", "iif")
"""Those whose later arguments are looked at only where the first ones leave it open."""


class Counters:
    """The counters of one pipeline: each prefix has its own, and goes up by one a run."""

    def __init__(self) -> None:
        self._next: dict[str, int] = {}

    def function(self) -> Function:
        """``counter(prefix, seed)`` for one run."""
        return (0, 2, self._count)

    def _count(self, prefix: Value = "", seed: Value = Decimal(0)) -> Decimal:
        key = _lowered(prefix)
        number = self._next.get(key, int(to_number(seed)))
        self._next[key] = number + 1
        return Decimal(number)
