"""Words of messages, of pages and of figures."""

from __future__ import annotations

import re
import warnings

import pytest
from matplotlib.figure import Figure

from vision_mlops.core.figures import MOST_COLUMNS, FigureWords
from vision_mlops.core.text import as_html, counted, few, in_markdown


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


def test_only_words_too_long_for_a_column_may_be_broken() -> None:
    long = "x" * 30
    assert as_html(f"result <b> {long} why") == f"result &lt;b&gt; <span class=long>{long}</span> why"


def test_names_stay_what_they_are_in_markdown() -> None:
    assert in_markdown("a|b\n<i> _c_") == r"a\|b \<i\> \_c\_"


NAMES = [
    "猫",
    "한국어",
    "قطة",
    "חתול",
    "हिन्दी",
    "แมว",
    "😀",
    "é",
    "$x^2$",
    "_hidden",
    r"\frac",
    "<b>&",
    "a\x01b\nc",
    "N0",
]


def test_names_of_any_script_are_text_in_a_figure() -> None:
    words = FigureWords()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = Figure(layout="constrained")
        axes = figure.subplots()
        for number, name in enumerate(NAMES):
            axes.plot([0, number], label=words.stand_in(name))
        axes.legend()
        svg = words.svg(figure)
    shown = re.findall(r"<text [^>]*>([^<]*)</text>", svg)
    assert shown[-len(NAMES) :] == [
        *NAMES[:-3], "&lt;b&gt;&amp;", "a b c", "N0"
    ]  # fmt: skip
    assert svg == words.svg(figure)


def test_of_a_long_name_both_ends_are_shown() -> None:
    words = FigureWords()
    stand_in = words.stand_in("the first of many " + "猫" * 40 + " that end so")
    assert len(stand_in) <= MOST_COLUMNS + 2
    figure = Figure()
    figure.text(0, 0, stand_in)
    assert ">the first of… that end so<" in words.svg(figure)
