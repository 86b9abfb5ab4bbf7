"""Values of expressions, and how Azure Pipelines makes one kind into another."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from functools import total_ordering
from typing import Any

from testing.support.azure_pipelines.pipeline_errors import PipelineError

Value = Any
"""None, bool, Decimal, str, Version, a list, or a mapping."""


@total_ordering
@dataclass(frozen=True)
class Version:
    """A version of two to four parts, such as 1.2.3."""

    parts: tuple[int, ...]

    def __str__(self) -> str:
        return ".".join(map(str, self.parts))

    def __lt__(self, other: Version) -> bool:
        return self.parts < other.parts


class NotConvertibleError(Exception):
    """A value has no counterpart of the wanted kind."""


class Names(Mapping[str, Value]):
    """A mapping whose names are found in upper and lower case alike, as all names of Azure Pipelines are."""

    def __init__(self, content: Mapping[str, Value] | None = None) -> None:
        self._content = dict(content or {})
        self._spelled = {name.lower(): name for name in self._content}

    def __getitem__(self, name: str) -> Value:
        return self._content[self._spelled[name.lower()]]

    def __iter__(self) -> Iterator[str]:
        return iter(self._content)

    def __len__(self) -> int:
        return len(self._content)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in self._spelled


def to_bool(value: Value) -> bool:
    """What a condition takes it for."""
    if isinstance(value, Decimal):
        return value != 0
    if value is None or isinstance(value, bool | str):
        return bool(value)
    return True


def to_text(value: Value) -> str:
    """How it is written.

    Raises:
        NotConvertibleError: lists and objects have no text.
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return "True" if value else "False"
    if isinstance(value, Decimal):
        text = format(value, "f")
        return text.rstrip("0").rstrip(".") if "." in text else text
    if isinstance(value, str | Version):
        return str(value)
    raise NotConvertibleError("an object has no text")


def to_number(value: Value) -> Decimal:
    """The number that it stands for.

    Raises:
        NotConvertibleError: it stands for none.
    """
    if value is None:
        return Decimal(0)
    if isinstance(value, bool):
        return Decimal(int(value))
    if isinstance(value, Decimal):
        return value
    if isinstance(value, str):
        text = value.strip().replace(",", "")
        try:
            return Decimal(text) if text else Decimal(0)
        except InvalidOperation:
            pass
    raise NotConvertibleError(f"{value} is not a number")


def to_version(value: Value) -> Version:
    """The version that it stands for; a text needs two parts at least."""
    if isinstance(value, Version):
        return value
    if isinstance(value, Decimal | str):
        text = to_text(value)
        if re.fullmatch(r"\d+(\.\d+){1,3}", text):
            return Version(tuple(int(part) for part in text.split(".")))
    raise NotConvertibleError(f"{value} is not a version")


def like(value: Value, left: Value) -> Value:
    """A value converted to the kind of the left operand of a comparison.

    Raises:
        NotConvertibleError: that cannot be.
    """
    if isinstance(left, bool):
        return to_bool(value)
    if left is None:
        if value is None or value == "":
            return None
        raise NotConvertibleError("it is not null")
    if isinstance(left, Decimal):
        return to_number(value)
    if isinstance(left, Version):
        return to_version(value)
    if isinstance(left, str):
        return to_text(value)
    raise NotConvertibleError("objects are compared with nothing")


def equal(left: Value, right: Value) -> bool:
    """Whether ``eq`` holds; texts are compared without regard to case."""
    if isinstance(left, Mapping | list) or isinstance(right, Mapping | list):
        return left is right
    try:
        right = like(right, left)
    except NotConvertibleError:
        return False
    if isinstance(left, str):
        return left.lower() == str(right).lower()
    return bool(left == right)


def compared(left: Value, right: Value) -> int:
    """Negative, 0 or positive as the left one is less, equal or greater.

    Raises:
        PipelineError: the two cannot be compared.
    """
    try:
        right = like(right, left)
    except NotConvertibleError as error:
        raise PipelineError(f"{left!r} cannot be compared with {right!r}: {error}") from error
    if isinstance(left, str):
        left, right = left.lower(), str(right).lower()
    return int(left > right) - int(left < right)


def is_list(value: Value) -> bool:
    """Whether it is a list, and no text."""
    return isinstance(value, Sequence) and not isinstance(value, str)
