"""Puts paths into a command so that bash has exactly this path at the place where it stands, whatever signs are in it.

On Azure ML the paths of inputs and outputs have no such signs, so commands are written without quotes around them. On a
machine of one's own, ``my photos`` is a common name. Values are put in as they are, as Azure ML does it. How a path is
quoted, its place decides: a word, quotes, a here-document, a comment.
:mod:`~vision_mlops.jobs.definitions.plan.bash_quoting` tells them apart.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping

from vision_mlops.jobs.definitions.expressions import BindingReference, ExpressionError, Optional, parse
from vision_mlops.jobs.definitions.plan.bash_quoting import MARK, BashQuoting


def render_command(
    command: str, values: Mapping[tuple[str, ...], str | None], paths: Mapping[tuple[str, ...], str]
) -> str:
    """Put values and paths in; an optional group with a reference that has none is left out.

    Args:
        command: For bash, with expressions.
        values: Put in as they are.
        paths: Quoted as the place where they stand needs it.

    Raises:
        ExpressionError: an expression is broken, or one outside of ``$[[...]]`` has no value.
    """
    text, marked = _marked(command, values, paths)
    if all(path == shlex.quote(path) for path in marked):
        return _put_back(text, marked)
    try:
        return BashQuoting(text, marked).whole()
    except RecursionError as error:
        raise ExpressionError("the command is nested too deeply") from error


def render_words(
    arguments: str, values: Mapping[tuple[str, ...], str | None], paths: Mapping[tuple[str, ...], str]
) -> list[str]:
    """The same for words that no shell sees, such as the arguments of an entry script: split at blanks, without quotes.

    Raises:
        ExpressionError: as above, or a quotation mark is not closed.
    """
    text, marked = _marked(arguments, values, paths)
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise ExpressionError(f"the arguments cannot be split into words: {error}") from error
    left = iter(marked)
    return [_put_back(word, left) for word in words]


def _marked(
    text: str, values: Mapping[tuple[str, ...], str | None], paths: Mapping[tuple[str, ...], str]
) -> tuple[str, list[str]]:
    """The text with its values, and a mark for each path; and these paths."""
    result, marked = [], []
    for piece in parse(text):
        parts = piece.pieces if isinstance(piece, Optional) else (piece,)
        given = [part for part in parts if isinstance(part, BindingReference)]
        lacking = [part for part in given if part.parts not in paths and values.get(part.parts) is None]
        if lacking and not isinstance(piece, Optional):
            raise ExpressionError(f"{lacking[0]} has no value")
        for part in () if lacking else parts:
            if isinstance(part, BindingReference) and part.parts in paths:
                marked.append(paths[part.parts])
                result.append(MARK)
            else:
                result.append(part if isinstance(part, str) else values[part.parts] or "")
                if MARK in result[-1]:
                    raise ExpressionError("a command cannot hold a zero byte")
    return "".join(result), marked


def _put_back(text: str, paths: Iterable[str]) -> str:
    """The text with the paths in place of their marks, as they are."""
    left = iter(paths)
    return re.sub(MARK, lambda _: next(left), text)
