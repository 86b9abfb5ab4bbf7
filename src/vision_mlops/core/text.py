"""Formats the text of messages and pages."""

from __future__ import annotations

import difflib
import html
import re
from collections.abc import Iterable, Sequence

_MARKDOWN = re.compile(r"([\\`*_<>|~$\[\]])")
_LONG_WORD = re.compile(r"(\S{25,})")


def closest(word: str, names: Iterable[str], cutoff: float = 0.6) -> list[str]:
    """Find the most similar name, ignoring case; nothing if no name is similar enough."""
    small = {name.lower(): name for name in names}
    return [small[name] for name in difflib.get_close_matches(word.lower(), small, n=1, cutoff=cutoff)]


def nearest(
    word: str, options: Iterable[str], nothing: str = "none exists here", listed: str = "Valid here", parent: str = ""
) -> str:
    """Suggest names for one that does not exist: the most similar one, if any is similar, and all that exist.

    Args:
        word: The name.
        options: Names that exist.
        nothing: What to say if there are none.
        listed: What to say before the list of all.
        parent: What to put before the suggested name.
    """
    names = list(options)
    if not names:
        return nothing
    near = closest(word, names, cutoff=0.5)
    start = f"did you mean {parent + near[0]!r}? " if near else ""
    return f"{start}{listed}: {', '.join(names)}"


def is_address(text: str) -> bool:
    """Return whether a text is an address such as ``https://host/x.jpg``, even after use as a path (``https:/host``)."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", text) is not None


def counted(number: int, noun: str, plural: str = "") -> str:
    """Return a number with its noun, as in ``1 error`` and ``2,000 classes``.

    Args:
        number: How many.
        noun: In the singular.
        plural: Where it is not the noun with -s, -es or -ies.
    """
    if not plural:
        y = noun.endswith("y") and not noun.endswith(("ay", "ey", "oy", "uy"))
        plural = f"{noun[:-1]}ies" if y else f"{noun}es" if noun.endswith(("s", "x", "ch", "sh")) else f"{noun}s"
    return f"{number:,} {noun if number == 1 else plural}"


def few(items: Sequence[str], between: str = ", ", most: int = 5) -> str:
    """List the first of some texts, and how many more there are."""
    more = f"{between}and {len(items) - most:,} more" if len(items) > most else ""
    return between.join(items[:most]) + more


def in_markdown(text: str) -> str:
    """Escape a text for a page or table of Markdown, on one line."""
    return _MARKDOWN.sub(r"\\\1", " ".join(text.split()))


def as_html(text: str) -> str:
    """Escape a text for a page whose class ``long`` may break anywhere; words that are too long for a column get it."""
    parts = (html.escape(part) for part in _LONG_WORD.split(text))
    return "".join(f"<span class=long>{part}</span>" if number % 2 else part for number, part in enumerate(parts))
