"""Words of messages."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


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
