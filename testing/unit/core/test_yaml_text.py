"""Files that hold a mapping, and what is said of those that do not."""

from __future__ import annotations

from pathlib import Path

import pytest

from vision_mlops.core.errors import PipelineError
from vision_mlops.core.yaml_text import read_mapping


def test_a_mapping_is_read_and_an_empty_file_may_be_one(tmp_path: Path) -> None:
    file = tmp_path / "a.yml"
    for text, expected in (("a: 1", {"a": 1}), ("{}", {})):
        file.write_text(text)
        assert read_mapping(file) == read_mapping(file, may_be_empty=True) == expected
    file.write_text("# nothing")
    assert read_mapping(file, may_be_empty=True) == {}
    with pytest.raises(PipelineError, match="is not a mapping of keys to values"):
        read_mapping(file)


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("- a", "the file is not a mapping of keys to values", "write keys"),
        (
            "a: [",
            "the file cannot be read: line 1: expected the node content, but found '<stream end>'",
            "fix the file",
        ),
        ("a: 1\na: 2", "the file cannot be read: .*the key 'a' is given twice", "fix the file"),
        (None, "the file cannot be read: No such file or directory", "check the path"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(tmp_path: Path, text: str | None, message: str, hint: str) -> None:
    file = tmp_path / "a.yml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(PipelineError, match=f"^{message}") as raised:
        read_mapping(file, "the file", "write keys")
    assert raised.value.hint == hint
