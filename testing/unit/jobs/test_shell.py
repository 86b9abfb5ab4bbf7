"""Paths in commands: whatever signs are in a path, bash takes it for one word."""

from __future__ import annotations

import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vision_mlops.jobs.definitions.expressions import ExpressionError
from vision_mlops.jobs.definitions.plan.shell import render_command

IN, OUT = ("inputs", "data"), ("outputs", "out")


def words(command: str) -> list[str]:
    """What a program gets as its arguments."""
    done = subprocess.run(["bash", "-c", command], capture_output=True, check=True)
    return done.stdout.decode("utf-8", "surrogateescape").split("\0")[:-1]


SHOW = r"printf '%s\0' "


@pytest.mark.parametrize(
    "place", ["${{inputs.data}}", '"${{inputs.data}}"', "'${{inputs.data}}'", "$[[${{inputs.data}}]]"]
)
@pytest.mark.parametrize(
    "path", ["/plain/path-1.0", "/my photos", "/it's", '/a "b"', "/$HOME/`id`", "/back\\slash", "/a;b&c|d", "/ö*?[x]"]
)
def test_a_path_is_one_word_wherever_it_stands(place: str, path: str) -> None:
    assert words(render_command(SHOW + place + " after", {}, {IN: path})) == [path, "after"]


@settings(max_examples=30, deadline=None)
@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20))
def test_any_path(path: str) -> None:
    text = render_command(SHOW + "x=${{inputs.data}} \"y=${{outputs.out}}\" 'z'", {}, {IN: path, OUT: path})
    assert words(text) == [f"x={path}", f"y={path}", "z"]


def test_plain_paths_and_values_stay_as_they_are() -> None:
    text = "run ${{inputs.data}} ${{inputs.flags}} $[[--n ${{inputs.n}}]]"
    assert render_command(text, {("inputs", "flags"): "-a  -b"}, {IN: "/data/x"}) == "run /data/x -a  -b "


def test_quotes_around_values_are_followed() -> None:
    values: dict[tuple[str, ...], str | None] = {("inputs", "flags"): 'say "'}
    text = render_command('${{inputs.flags}}${{inputs.data}}"', values, {IN: "/a $b"})
    assert text == 'say "/a \\$b"'


def test_what_has_no_value_is_an_error() -> None:
    with pytest.raises(ExpressionError, match=r"\$\{\{inputs.n\}\} has no value"):
        render_command("x ${{inputs.n}}", {("inputs", "n"): None}, {})
