"""Code cells of Jupyter notebooks, as Python and as their text."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

_MAGIC = re.compile(r"^(\s*)([%!?].*)$")
_SECTIONS = ("kernelspec", "language_info")
_KERNEL = re.compile(r"python[ _-]?([23])[._]?(\d{1,2})\b", re.IGNORECASE)
_VERSION = re.compile(r"[23]\.\d+")
_ASSIGNED = re.compile(r"^(\s*[\w, ]+=\s*)[%!].*$")


class Notebook(NamedTuple):
    """What of a notebook is looked at.

    Attributes:
        cells: Its code cells.
        python: Version of the Python that it asks for, such as ``3.8``; empty where it names none.
    """

    cells: list[Cell]
    python: str


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


def read_notebook(text: str) -> Notebook:
    """Take the code cells and the kernel out of a notebook.

    Raises:
        ValueError: it is none.
    """
    if not text.strip():
        raise ValueError("it is empty")
    content = json.loads(text)
    if not isinstance(content, dict):
        raise ValueError("it is not a mapping of keys to values")
    return Notebook(list(_code_cells(content)), _kernel(content.get("metadata")))


def _kernel(metadata: Any) -> str:
    """Return the version in the name of the kernel, else that of the Python that last ran the notebook."""
    sections = metadata if isinstance(metadata, dict) else {}
    kernel, language = (section if isinstance(section := sections.get(key), dict) else {} for key in _SECTIONS)
    for name in (kernel.get("name"), kernel.get("display_name")):
        if found := _KERNEL.search(str(name)):
            return f"{found[1]}.{found[2]}"
    found = _VERSION.match(str(language.get("version")))
    if kernel.get("name") == "python2":
        return found[0] if found else "2"
    return found[0] if found and language.get("name", "python") == "python" else ""


def _code_cells(content: dict[str, Any]) -> Iterator[Cell]:
    sheets = content.get("worksheets")  # of version 3 of the format
    cells = content.get("cells") or [cell for sheet in sheets or () for cell in sheet.get("cells", ())]
    if not isinstance(cells, list) or not all(isinstance(cell, dict) for cell in cells):
        raise ValueError("its cells are not a list")
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
