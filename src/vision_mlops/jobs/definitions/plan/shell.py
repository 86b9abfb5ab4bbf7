"""Puts paths into a command so that the shell takes each for one word, whatever signs are in it.

On Azure ML the paths of inputs and outputs have no such signs, so commands are written without quotes around them. On a
machine of one's own, ``my photos`` is a common name. Values are put in as they are, as Azure ML does it.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping

from vision_mlops.jobs.definitions.expressions import BindingReference, ExpressionError, Optional, parse

_IN_DOUBLE_QUOTES = re.compile(r'([\\"$`])')


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
    result, quote = "", ""
    for piece in parse(command):
        parts = piece.pieces if isinstance(piece, Optional) else (piece,)
        given = [part for part in parts if isinstance(part, BindingReference)]
        lacking = [part for part in given if part.parts not in paths and values.get(part.parts) is None]
        if lacking and not isinstance(piece, Optional):
            raise ExpressionError(f"{lacking[0]} has no value")
        for part in () if lacking else parts:
            if isinstance(part, str):
                text = part
            elif part.parts in paths:
                result += _quoted(paths[part.parts], quote)
                continue
            else:
                text = values[part.parts] or ""
            result, quote = result + text, _state(text, quote)
    return result


def _quoted(path: str, quote: str) -> str:
    if quote == '"':
        return _IN_DOUBLE_QUOTES.sub(r"\\\1", path)
    if quote == "'":
        return path.replace("'", "'\\''")
    return shlex.quote(path)


def _state(text: str, quote: str) -> str:
    """The quote that is open after a text: a double or a single one, or none."""
    escaped = False
    for sign in text:
        if escaped:
            escaped = False
        elif sign == "\\" and quote != "'":
            escaped = True
        elif sign in "'\"" and quote in ("", sign):
            quote = "" if quote else sign
    return quote
