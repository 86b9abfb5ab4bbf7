"""Words of messages."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


def closest(word: str, names: Iterable[str], cutoff: float = 0.6) -> list[str]:
    """The most similar name, capitals or not; none where no name is similar enough."""
    small = {name.lower(): name for name in names}
    return [small[name] for name in difflib.get_close_matches(word.lower(), small, n=1, cutoff=cutoff)]


def nearest(word: str, options: Iterable[str], nothing: str = "there is none here") -> str:
    """Suggestion for a name that does not exist: the most similar one, and all that there are."""
    names = list(options)
    if not names:
        return nothing
    near = closest(word, names, cutoff=0.5)
    start = f"did you mean {near[0]!r}? " if near else ""
    return f"{start}Valid here: {', '.join(names)}"


def counted(number: int, noun: str, plural: str = "") -> str:
    """A number with its noun, as in ``1 error`` and ``2,000 classes``.

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
    """The first of some texts, and how many more there are."""
    more = f"{between}and {len(items) - most:,} more" if len(items) > most else ""
    return between.join(items[:most]) + more
