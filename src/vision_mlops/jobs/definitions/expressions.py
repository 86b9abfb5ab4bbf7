"""Binding expressions: ``${{inputs.x}}``, ``${{parent.jobs.J.outputs.O}}``, ``$[[ --flag ${{inputs.optional}} ]]``.

:func:`parse` takes a text apart, :func:`render` puts values in.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

_OPEN = re.compile(r"\$\{\{|\$\[\[|\]\]")
_BODY = re.compile(r"[A-Za-z_][\w-]*(\.[A-Za-z_][\w-]*)*")


class ExpressionError(ValueError):
    """A text holds something that looks like an expression and is none."""


@dataclass(frozen=True)
class BindingReference:
    """One ``${{...}}``: its dotted parts, and whether it stands inside ``$[[...]]``."""

    parts: tuple[str, ...]
    optional: bool = False

    def __str__(self) -> str:
        return f"${{{{{'.'.join(self.parts)}}}}}"


@dataclass(frozen=True)
class Optional:
    """What stands between ``$[[`` and ``]]``: left out where one of its references has no value."""

    pieces: tuple[str | BindingReference, ...]


Piece = str | BindingReference | Optional


def parse(text: str) -> tuple[Piece, ...]:
    """Take a text apart into plain text, references and optional groups.

    Raises:
        ExpressionError: a bracket is not closed, groups are nested, or a reference is not made of dotted names.
    """
    pieces: list[Piece] = []
    group: list[str | BindingReference] | None = None
    position = 0
    while match := _OPEN.search(text, position):
        current: list[Piece] | list[str | BindingReference] = pieces if group is None else group
        if match.group() == "]]" and group is None:  # plain text, such as a shell test
            current.append(text[position : match.end()])
            position = match.end()
            continue
        if match.start() > position:
            current.append(text[position : match.start()])
        position = match.end()
        if match.group() == "$[[":
            if group is not None:
                raise ExpressionError("$[[ inside $[[ ]]")
            group = []
        elif group is not None and match.group() == "]]":
            pieces.append(Optional(tuple(group)))
            group = None
        else:
            end = text.find("}}", position)
            if end < 0:
                raise ExpressionError("${{ without }}")
            body = text[position:end].strip()
            if not _BODY.fullmatch(body):
                raise ExpressionError(f"${{{{{body}}}}} is not made of names with dots between them")
            current.append(BindingReference(tuple(body.split(".")), optional=group is not None))
            position = end + 2
    if group is not None:
        raise ExpressionError("$[[ without ]]")
    if position < len(text):
        pieces.append(text[position:])
    return tuple(pieces)


def references(text: str) -> Iterator[BindingReference]:
    """The references in a text, in order, those of optional groups included. Raises as :func:`parse` does."""
    for piece in parse(text):
        if isinstance(piece, BindingReference):
            yield piece
        elif isinstance(piece, Optional):
            yield from (part for part in piece.pieces if isinstance(part, BindingReference))


def sole(value: object) -> BindingReference | None:
    """The reference that a value consists of, or None where there is other text beside it."""
    if not isinstance(value, str) or "${{" not in value:
        return None
    try:
        pieces = parse(value.strip())
    except ExpressionError:
        return None
    return pieces[0] if len(pieces) == 1 and isinstance(pieces[0], BindingReference) else None


def render(text: str, values: Mapping[tuple[str, ...], str | None]) -> str:
    """Put values in; an optional group with a reference that has none is left out.

    Args:
        text: May hold expressions.
        values: Text by the dotted parts of a reference; None where an optional input is not given.

    Raises:
        ExpressionError: as :func:`parse`, or a reference outside of ``$[[...]]`` has no value.
    """
    result: list[str] = []
    for piece in parse(text):
        if isinstance(piece, str):
            result.append(piece)
        elif isinstance(piece, BindingReference):
            value = values.get(piece.parts)
            if value is None:
                raise ExpressionError(f"{piece} has no value")
            result.append(value)
        else:
            parts = [part if isinstance(part, str) else values.get(part.parts) for part in piece.pieces]
            result.append("".join(part for part in parts if part is not None) if None not in parts else "")
    return "".join(result)
