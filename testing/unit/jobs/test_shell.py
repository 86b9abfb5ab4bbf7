"""Paths in commands: whatever signs are in a path, bash takes it for one word."""

from __future__ import annotations

import subprocess
from importlib.metadata import PackageNotFoundError

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vision_mlops.core.errors import MissingExtraError
from vision_mlops.jobs.definitions.expressions import ExpressionError
from vision_mlops.jobs.definitions.plan.shell import render_command, render_words

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


P = "${{inputs.data}}"
NASTY = '/it\'s "a" $HOME `id` $(id) \\ #x ;&|<(*)?[y]{z}!~%s <<E\nö\t\\'
# What stands around the path, and the words that come out of it, or the text and the words.
PLACES: list[tuple[str, str | list[str] | tuple[str, list[str]]]] = [
    (f"S --x={P}/sub", "--x=P/sub"),
    (f"S \\{P}", "P"),
    (f'S "a\\{P}"', "a\\P"),
    (f"# don't {P}\nS {P}", "P"),
    (f"S a; # it's\nS {P}", ["a", "P"]),
    (f"S a|cat >/dev/null;#it's\nS {P}", "P"),
    (f"S a#b '{P}'", ["a#b", "P"]),
    (f"S a \\\n# it's\nS {P}", ["a", "P"]),
    (f"S a \\\n {P}", ["a", "P"]),
    (f"S $'a\\'b {P}'", "a'b P"),
    (f'S $"x {P}"', "x P"),
    (f"S it\\'s {P}", ["it's", "P"]),
    (f"cat <<E\n{P} it's \"\nE\nS {P}", ("P it's \"\n", ["P"])),
    (f"cat <<'E'\n{P} it's $HOME\nE\nS {P}", ("P it's $HOME\n", ["P"])),
    (f"cat <<-E\n\tx {P}\n\tE\nS {P}", ("x P\n", ["P"])),
    (f"cat <<\\E; S {P}\nit's {P}\nE\n", ("it's P\n", ["P"])),
    (f"cat <<A <<B\n'\nA\nb {P}\nB\nS {P}", ("b P\n", ["P"])),
    (f"cat <<E\na\\\nE\nE\nS {P}", ("aE\n", ["P"])),
    (f"cat <<E\n$(echo \"it's {P}\")\nE", ("it's P\n", [])),
    (f"cat <<E\n${{x:-{P}}}\nE", ("P\n", [])),
    (f"x=$(cat <<E\nit's {P}\nE\n); S \"$x\"", "it's P"),
    (f"cat <<< {P}", ("P\n", [])),
    (f'S "$(printf %s {P})"', "P"),
    (f'S "`printf %s {P}`"', "P"),
    (f"S \"`printf %s \\\"it's {P}\\\"`\"", "it's P"),
    (f"S \"$(printf %s \"`printf %s '{P}'`\")\"", "P"),
    (f'S "$((printf a); printf %s {P})"', "aP"),
    (f"x=; S ${{x:-{P}}}", "P"),
    (f'x=; S "${{x:-{P}}}"', "P"),
    (f"x=; S ${{x:-'{P}'}}", "P"),
    (f'x={P}/f; S "${{x#{P}/}}"', "f"),
    (f"x={P}/f; S \"${{x#'{P}'/}}\"", "f"),
    (f"x={P}/f; S ${{x#{P}/}}", "f"),
    (f"x=a; S ${{#x}} $# \"$#\" '{P}'", ["1", "0", "0", "P"]),
    (f"S $((1<<2)) $[1<<2] $((16#ff)) {P}", ["4", "4", "255", "P"]),
    (f"((x = 1<<2)); S $x {P}", ["4", "P"]),
    (f"for ((i=0; i<1; i++)); do S {P}; done", "P"),
    (f"[[ {P} == {P} && -n \"it's\" ]] && S {P}", "P"),
    (f"case {P} in\n {P}) S {P};;\nesac", "P"),
    (f"S \"$(case x in x) printf %s '{P}';; esac; # it's )\n)\"", "P"),
    (f'S case "$(printf %s {P})"', ["case", "P"]),
    (f"f() {{ S \"$1\" # it's\n}}; f {P}", "P"),
    (f"a=({P} 'it'); S \"${{a[0]}}\" \"${{#a[@]}}\"", ["P", "2"]),
]  # fmt: skip


@pytest.mark.parametrize(("command", "expected"), PLACES, ids=[command for command, _ in PLACES])
def test_bash_has_the_path_wherever_it_stands(command: str, expected: str | list[str] | tuple[str, list[str]]) -> None:
    before, after = (
        expected if isinstance(expected, tuple) else ("", [expected] if isinstance(expected, str) else expected)
    )
    for path in ("/my photos", NASTY):
        text = r"""S() { printf '%s\0' "$@"; }""" + "\n" + render_command(command, {}, {IN: path})
        done = subprocess.run(["bash", "-c", text], capture_output=True, check=True)
        wanted = before + "".join(f"{word}\0" for word in after)
        assert done.stdout.decode() == wanted.replace("P", path).replace(f"S{path}", "SP")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (f"--in {P} --x={P}/sub", ["--in", "P", "--x=P/sub"]),
        (f"# {P} '{P} a' \"b {P}\"", ["#", "P", "P a", "b P"]),
        (f"<<E {P} $(x {P}", ["<<E", "P", "$(x", "P"]),
    ],
)
def test_arguments_that_no_shell_sees(arguments: str, expected: list[str]) -> None:
    for path in ("/my photos", NASTY):
        assert render_words(arguments, {}, {IN: path}) == [word.replace("P", path) for word in expected]


def test_arguments_with_an_open_quote_and_zero_bytes_are_errors() -> None:
    with pytest.raises(ExpressionError, match="cannot be split into words: No closing quotation"):
        render_words("it's ${{inputs.data}}", {}, {IN: "/a b"})
    with pytest.raises(ExpressionError, match="zero byte"):
        render_command("echo ${{inputs.word}} ${{inputs.data}}", {("inputs", "word"): "a\0b"}, {IN: "/a b"})


def test_a_command_that_cannot_be_parsed_is_an_error_only_where_a_path_needs_quotes() -> None:
    assert render_command(f"S 'a {P}", {}, {IN: "/data/x"}) == "S 'a /data/x"
    with pytest.raises(
        ExpressionError, match=r"a path needs quotes, cannot be parsed: 1:3: reached EOF without closing"
    ):
        render_command(f"S 'a {P}", {}, {IN: "/my photos"})


def not_installed(name: str) -> None:
    raise PackageNotFoundError(name)


def test_a_path_that_needs_quotes_needs_shfmt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")  # a package is found wherever it was installed
    assert render_command(f"S {P}", {}, {IN: "/my photos"}) == "S '/my photos'"
    monkeypatch.setattr("vision_mlops.jobs.definitions.plan.shell.distribution", not_installed)
    assert render_command(f"S {P}", {}, {IN: "/data/x"}) == "S /data/x"
    with pytest.raises(MissingExtraError, match="needs the package 'shfmt-py'"):
        render_command(f"S {P}", {}, {IN: "/my photos"})
