"""Binding expressions: ``${{inputs.x}}``, ``${{parent.jobs.J.outputs.O}}``, ``$[[ --flag ${{inputs.optional}} ]]``.

:func:`parse` splits a text, :func:`render` inserts values.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

_GROUP = re.compile(r"\$\[\[(.*?)\]\]", re.DOTALL)
_REFERENCE = re.compile(r"\$\{\{(.*?)\}\}", re.DOTALL)
_BODY = re.compile(r"[A-Za-z_][\w-]*(\.[A-Za-z_][\w-]*)*")


class ExpressionError(ValueError):
    """A text contains something that looks like an expression and is not one."""


@dataclass(frozen=True)
class BindingReference:
    """One ``${{...}}``: its dotted parts, and whether it stands inside ``$[[...]]``."""

    parts: tuple[str, ...]
    optional: bool = False

    def __str__(self) -> str:
        return f"${{{{{'.'.join(self.parts)}}}}}"


@dataclass(frozen=True)
class Optional:
    """The content of ``$[[ ]]``, which is left out if one of its references has no value."""

    pieces: tuple[str | BindingReference, ...]


Piece = str | BindingReference | Optional


def parse(text: str) -> tuple[Piece, ...]:
    """Split a text into plain text, references and optional groups.

    Raises:
        ExpressionError: a bracket is not closed, groups are nested, or a reference is not made of dotted names.
    """
    pieces: list[Piece] = []
    for number, part in enumerate(_GROUP.split(text)):
        if "$[[" in part:
            raise ExpressionError("$[[ inside $[[ ]]" if number % 2 else "$[[ without ]]")
        if number % 2:
            pieces.append(Optional(tuple(_flat(part, optional=True))))
        else:
            pieces.extend(_flat(part, optional=False))
    return tuple(pieces)


def _flat(text: str, *, optional: bool) -> Iterator[str | BindingReference]:
    """Yield the plain text and the references of a text without optional groups."""
    for number, part in enumerate(_REFERENCE.split(text)):
        if number % 2:
            if not _BODY.fullmatch(part.strip()):
                raise ExpressionError(f"${{{{{part.strip()}}}}} is not made of names with dots between them")
            yield BindingReference(tuple(part.strip().split(".")), optional)
        elif "${{" in part:
            raise ExpressionError("${{ without }}")
        elif part:
            yield part


def references(text: str) -> Iterator[BindingReference]:
    """Yield the references in a text, in order, including those of optional groups. Raises as :func:`parse` does."""
    for piece in parse(text):
        if isinstance(piece, BindingReference):
            yield piece
        elif isinstance(piece, Optional):
            yield from (part for part in piece.pieces if isinstance(part, BindingReference))


def sole(value: object) -> BindingReference | None:
    """Return the reference that a value consists of, or None if it contains any other text."""
    if not isinstance(value, str) or "${{" not in value:
        return None
    try:
        pieces = parse(value.strip())
    except ExpressionError:
        return None
    return pieces[0] if len(pieces) == 1 and isinstance(pieces[0], BindingReference) else None


def render(text: str, values: Mapping[tuple[str, ...], str | None]) -> str:
    """Insert values into a text; an optional group with a reference that has no value is left out.

    Args:
        text: May contain expressions.
        values: Text by the dotted parts of a reference; None if an optional input is not given.

    Raises:
        ExpressionError: as :func:`parse`, or a reference outside of ``$[[...]]`` has no value.
    """
    result: list[str] = []
    for piece in parse(text):
        parts = piece.pieces if isinstance(piece, Optional) else (piece,)
        found = [part if isinstance(part, str) else values.get(part.parts) for part in parts]
        given = [part for part in found if part is not None]
        if len(given) == len(found):
            result += given
        elif not isinstance(piece, Optional):
            raise ExpressionError(f"{piece} has no value")
    return "".join(result)
