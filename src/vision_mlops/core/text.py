"""Words of messages."""

from __future__ import annotations

import difflib
import html
import re
from collections.abc import Iterable

_MARKDOWN = re.compile(r"([\\`*_<>|~$\[\]])")
_LONG_WORD = re.compile(r"(\S{25,})")


def nearest(word: str, options: Iterable[str], nothing: str = "there is none here") -> str:
    """Suggestion for a name that does not exist: the most similar one, and all that there are."""
    names = list(options)
    if not names:
        return nothing
    near = difflib.get_close_matches(word, names, n=1, cutoff=0.5)
    start = f"did you mean {near[0]!r}? " if near else ""
    return f"{start}Valid here: {', '.join(names)}"


def counted(number: int, noun: str, plural: str = "") -> str:
    """A number with its noun, as in ``1 error`` and ``2,000 classes``.

    Args:
        number: How many.
        noun: In the singular.
        plural: Where it is not the noun with -s or -es.
    """
    several = plural or (f"{noun}es" if noun.endswith(("s", "x", "ch", "sh")) else f"{noun}s")
    return f"{number:,} {noun if number == 1 else several}"


def in_markdown(text: str) -> str:
    """Text as it is, on one line, in a page or table of Markdown."""
    return _MARKDOWN.sub(r"\\\1", " ".join(text.split()))


def as_html(text: str) -> str:
    """Text for a page whose style lets the class ``long`` break anywhere: a word too long for a column has it, no other."""
    parts = (html.escape(part) for part in _LONG_WORD.split(text))
    return "".join(f"<span class=long>{part}</span>" if number % 2 else part for number, part in enumerate(parts))
