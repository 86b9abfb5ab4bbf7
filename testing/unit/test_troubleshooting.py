"""docs/how_to/troubleshooting.md: the program prints each message in its headings, and has a hint for those of Azure."""

from __future__ import annotations

import ast
import re
from functools import cache

import pytest
from testing.support.guide_blocks import ROOT

from vision_mlops.azure.azure_errors import _BY_STATUS, _hint

GUIDE = (ROOT / "docs" / "how_to" / "troubleshooting.md").read_text(encoding="utf-8")
OURS, _, OF_AZURE = GUIDE.partition("\n## What Azure itself says\n")


def headings(text: str) -> list[str]:
    return re.findall(r"^### `(.+)`$", text, re.MULTILINE)


def pattern_of(node: ast.expr) -> str:
    """A regular expression for what a literal or an f-string becomes."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return re.escape(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(pattern_of(part) for part in node.values)
    if isinstance(node, ast.FormattedValue) and isinstance(node.value, ast.IfExp):
        return f"({pattern_of(node.value.body)}|{pattern_of(node.value.orelse)})"
    return ".*"


def letters(text: str) -> int:
    """How many letters stand in a text, of a regular expression outside its placeholders."""
    return sum(map(str.isalpha, re.sub(r"\\.", "", text)))


@cache
def texts() -> dict[re.Pattern[str], int]:
    """All texts of the program that are more than a word, with the number of their letters."""
    found, parts = set(), set()
    for file in (ROOT / "src" / "vision_mlops").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Expr):
                parts.add(node.value)  # a docstring, which nobody prints
            elif isinstance(node, ast.JoinedStr):
                parts.update(node.values)
            if isinstance(node, ast.JoinedStr | ast.Constant) and node not in parts:
                found.add(pattern_of(node))
    found = {text.removeprefix(r".*:\ ") for text in found}  # where it is, which a heading leaves out
    return {re.compile(text): letters(text) for text in found if letters(text) >= 9 and r"\ " in text}


def is_said(message: str) -> bool:
    """Whether a text of the program is in the message, and is not a small part of it: names and numbers are the rest."""
    return any(size >= 0.2 * letters(message) and text.search(message) for text, size in texts().items())


def test_every_heading_is_a_message() -> None:
    assert len(headings(GUIDE)) == GUIDE.count("\n### ")
    assert len(headings(OURS)) > 30
    assert len(headings(OF_AZURE)) >= 8


@pytest.mark.parametrize("message", headings(OURS))
def test_the_program_prints_the_message(message: str) -> None:
    assert is_said(message)


@pytest.mark.parametrize("message", headings(OF_AZURE))
def test_the_program_has_a_hint(message: str) -> None:
    assert _hint(message) or ("HTTP 429" in message and _BY_STATUS[429])


@pytest.mark.parametrize(
    "message", ["there is no wrokload 'fabric'", "accuracy 0.9 is under the floor of 1", "nothing of the kind happened"]
)
def test_what_the_program_does_not_print(message: str) -> None:
    assert not is_said(message)
