"""Paths of the resource manager: their words are case-insensitive, as on Azure; names stay as they are."""

from __future__ import annotations

from collections.abc import Iterable

_START = "/subscriptions"


class PathWords:
    """The words in paths, from the paths of the routes.

    Args:
        paths: Paths with placeholders in braces.
    """

    def __init__(self, paths: Iterable[str]) -> None:
        words = {word for path in paths for word in path.split("/") if word and "{" not in word}
        # A word that is written in two ways becomes the one with capitals, unless it matches one exactly.
        self._words = {word.lower(): word for word in sorted(words, reverse=True)} | {word: word for word in words}

    def settled(self, path: str) -> str:
        """Return a path with the words of the routes."""
        start = path.lower().find(f"{_START}/")
        if start < 0:
            return _START + path[len(_START) :] if path.lower() == _START else path
        head, parts = path[:start], path[start + 1 :].split("/")
        is_word = True
        for place, part in enumerate(parts):
            if is_word:
                parts[place] = self._word(part)
            elif place and parts[place - 1] == "providers":
                parts[place] = self._word(part)
                is_word = False  # the first kind follows at once
            is_word = not is_word
        return f"{head}/{'/'.join(parts)}"

    def _word(self, part: str) -> str:
        return self._words.get(part) or self._words.get(part.lower(), part)
