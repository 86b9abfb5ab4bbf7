"""Cells that a spreadsheet would compute, and those that it must read as they are."""

from __future__ import annotations

import csv
import io
from typing import Any

import pytest

from vision_mlops.core.csv_cells import from_cell, to_cell, write_rows


@pytest.mark.parametrize(
    "text",
    [
        "=1+1.jpg",
        "+cmd|' /C calc'!A0",
        "-x",
        "@SUM(A1)",
        "\tx",
        "\rx",
        "\nx",
        "＝1",
        "-",
        "-1-1",
        "+49 30",
        "'=1",
        "''@",
    ],
)
def test_formulas_get_an_apostrophe_that_comes_off_again(text: str) -> None:
    assert to_cell(text) == f"'{text}"
    assert from_cell(to_cell(text)) == text


@pytest.mark.parametrize(
    "value", ["-1", "+1.5", "-.5e-7", "-inf", -3, 0.25, None, "a=b", "'quoted'", "", "1-1", " =1", "x\n=1"]
)
def test_all_else_stays(value: Any) -> None:
    assert to_cell(value) == value
    if isinstance(value, str):
        assert from_cell(value) == value


def test_rows_are_read_back_as_they_were() -> None:
    rows: list[list[Any]] = [["=a", -1.5, 'b,"c"'], ["-0.25", "\r=x", "@"]]
    stream = io.StringIO(newline="")
    write_rows(stream, rows)
    read = [[from_cell(cell) for cell in row] for row in csv.reader(io.StringIO(stream.getvalue(), newline=""))]
    assert read == [[str(value) for value in row] for row in rows]
    assert "'=a,-1.5," in stream.getvalue()
