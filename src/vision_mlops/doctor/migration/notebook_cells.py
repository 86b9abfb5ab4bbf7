"""Code cells of Jupyter notebooks, as Python and as the lines that stand in them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

_MAGIC = re.compile(r"^(\s*)([%!?].*)$")
_ASSIGNED = re.compile(r"^(\s*[\w, ]+=\s*)[%!].*$")


class Cell(NamedTuple):
    """A code cell.

    Attributes:
        number: From 1 on, all cells counted.
        text: As it stands.
        python: Its code, with as many lines, without what only IPython understands; empty where it is another language.
    """

    number: int
    text: str
    python: str


def code_cells(text: str) -> Iterator[Cell]:
    """The code cells of a notebook.

    Raises:
        ValueError: it is none.
    """
    content = json.loads(text)
    if not isinstance(content, dict):
        raise ValueError("it is no notebook")
    sheets = content.get("worksheets")  # of version 3 of the format
    cells = content.get("cells") or [cell for sheet in sheets or () for cell in sheet.get("cells", ())]
    if not isinstance(cells, list) or not all(isinstance(cell, dict) for cell in cells):
        raise ValueError("its cells are no list")
    for number, cell in enumerate(cells, start=1):
        if cell.get("cell_type") == "code":
            source = _text(cell.get("source", cell.get("input", "")))
            yield Cell(number, source, _python(source))


def _text(source: Any) -> str:
    return "".join(map(str, source)) if isinstance(source, list) else str(source)


def _python(source: str) -> str:
    if source.lstrip().startswith("%%") and not re.match(r"\s*%%(time|timeit|capture|prun)\b", source):
        return ""
    lines = []
    for line in source.splitlines():
        if magic := _MAGIC.match(line):
            line = f"{magic[1]}pass"
        elif assigned := _ASSIGNED.match(line):
            line = f"{assigned[1]}None"
        lines.append(line)
    return "\n".join(lines)
