"""Puts words of a user, such as class names, into figures of matplotlib, which has the letters of a few scripts only.

It lays out a stand-in of about the width of each word. The words take their places in the SVG file as text, which whoever
shows it draws with fonts of their own; nothing in them is taken for mathematics or for a mark of matplotlib.
"""

from __future__ import annotations

import html
import io
import re
import unicodedata
from dataclasses import dataclass, field
from typing import Any

from rich.cells import cell_len

MOST_COLUMNS = 24
"""Width of a longer word, as a terminal counts it: a Chinese character takes two columns."""

_SETTINGS = {"svg.fonttype": "none", "svg.hashsalt": "mlops"}  # text as text; the same figure is the same file
_TEXT_NODE = re.compile(r">[^<]+<")
_STAND_IN = re.compile(r"N\d+")


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture as SVG, which a notebook shows where it is the result of a cell."""

    svg: str = field(repr=False)

    def _repr_svg_(self) -> str:
        """Return what IPython asks for."""
        return self.svg


class FigureWords:
    """The words of one or more figures."""

    def __init__(self) -> None:
        self._shown: dict[str, str] = {}

    def stand_in(self, word: str) -> str:
        """Return what a figure is given in place of a word: as many letters as the word takes columns, or a few more."""
        shown = shortened(word)
        name = f"N{len(self._shown):0{cell_len(shown)}d}"
        self._shown[name] = html.escape(shown)
        return name

    def svg(self, figure: Any) -> str:
        """Return the figure as SVG, with the words in their places."""
        import matplotlib

        stream = io.StringIO()
        with matplotlib.rc_context(_SETTINGS):
            figure.savefig(stream, format="svg", metadata={"Date": None})
        return _TEXT_NODE.sub(lambda node: _STAND_IN.sub(self._word, node[0]), stream.getvalue())

    def _word(self, found: re.Match[str]) -> str:
        return self._shown.get(found[0], found[0])


def shortened(word: str) -> str:
    """Return a word on one line, at most :data:`MOST_COLUMNS` wide; a long one keeps both ends, which tell most apart."""
    line = "".join(" " if unicodedata.category(sign) in ("Cc", "Cs", "Zl", "Zp") else sign for sign in word)
    if cell_len(line) <= MOST_COLUMNS:
        return line
    start, end = line[: MOST_COLUMNS // 2], line[-MOST_COLUMNS // 2 :]
    while cell_len(start) > MOST_COLUMNS // 2:
        start = start[:-1]
    while cell_len(end) > MOST_COLUMNS // 2 or unicodedata.category(end[0]).startswith("M"):
        end = end[1:]
    return f"{start}…{end}"
