"""Writes CSV files in which no cell is a formula when a spreadsheet opens them.

A text that begins with =, +, -, @, a tab or a line break gets an apostrophe before it: a spreadsheet would evaluate it, and
a file name can contain any text (OWASP: CSV injection). Numbers stay as they are, also as texts.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable
from typing import Any, TextIO

# Also the wide forms of the characters, which some spreadsheets take for the plain ones. A text that looks escaped already
# gets an apostrophe as well, so that removing one is always right.
_FORMULA = re.compile(r"'*[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?|[+-]?(inf|nan)")


def to_cell(value: Any) -> Any:
    """Return a value as it is written to a cell; :func:`from_cell` restores a text."""
    if not isinstance(value, str) or not _FORMULA.match(value) or _NUMBER.fullmatch(value):
        return value
    return f"'{value}"


def from_cell(text: str) -> str:
    """Return the text that :func:`to_cell` wrote."""
    return text[1:] if text.startswith("'") and _FORMULA.match(text) else text


def write_rows(stream: TextIO, rows: Iterable[Iterable[Any]]) -> None:
    """Write rows as CSV with line feeds to a stream that was opened with ``newline=""``."""
    csv.writer(_LineFeeds(stream)).writerows([to_cell(value) for value in row] for row in rows)


class _LineFeeds:
    """Ends each row with a line feed. A writer that was told to do so would leave a carriage return in a cell unquoted."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, row: str) -> None:
        self._stream.write(row.removesuffix("\r\n") + "\n")
