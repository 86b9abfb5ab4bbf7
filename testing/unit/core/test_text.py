"""Words of messages: numbers with their nouns, and lists that end."""

from __future__ import annotations

import pytest

from vision_mlops.core.text import counted, few


@pytest.mark.parametrize(
    ("number", "noun", "text"),
    [(0, "error", "0 errors"), (1, "error", "1 error"), (2, "class", "2 classes"), (1, "class", "1 class"),
     (3, "exact copy", "3 exact copies"), (2, "day", "2 days"), (12_000, "image", "12,000 images")],
)  # fmt: skip
def test_numbers_with_nouns(number: int, noun: str, text: str) -> None:
    assert counted(number, noun) == text
    assert counted(number, "ox", "oxen").endswith("ox" if number == 1 else "oxen")


def test_the_first_of_many() -> None:
    assert few(["a", "b"]) == "a, b"
    assert few(list("abcdefg"), "; ") == "a; b; c; d; e; and 2 more"
