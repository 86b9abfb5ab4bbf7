"""Words of messages."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(word: str, options: Iterable[str], nothing: str = "there is none here") -> str:
    """Suggestion for a name that does not exist: the most similar one, and all that there are."""
    names = list(options)
    if not names:
        return nothing
    near = difflib.get_close_matches(word, names, n=1, cutoff=0.5)
    start = f"did you mean {near[0]!r}? " if near else ""
    return f"{start}Valid here: {', '.join(names)}"
