"""Puts paths into a command so that bash gets exactly these paths, whatever characters are in them.

On Azure ML the paths of inputs and outputs have no special characters, so commands are written without quotes around them.
On one's own machine, ``my photos`` is a common name. Values are inserted as they are, as on Azure ML. How a path is quoted
depends on its place: a word, quotes, a here-document or a comment. ``shfmt`` parses the command to find out which it is.
"""

from __future__ import annotations

import contextlib
import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, distribution
from typing import Any, Literal

from vision_mlops.core.errors import MissingExtraError
from vision_mlops.jobs.definitions.expressions import ExpressionError, render

_MARK = re.compile(r"\0(\d+)\0")
"""Stands for a path by its number: no command can contain a zero byte."""
_CODEC = ("utf-8", "surrogateescape")
_IN_QUOTES = '\\"$`'  # what a backslash in double quotes escapes
_PATTERN_SIGNS = ("#", "%", "^", ",")  # of an operator in ${...} whose operand is a pattern, with quotes of its own


def render_command(
    command: str, values: Mapping[tuple[str, ...], str | None], paths: Mapping[tuple[str, ...], str]
) -> str:
    """Insert values and paths into a command; an optional group with a reference that has no value is left out.

    Args:
        command: For bash, with expressions.
        values: Inserted as they are.
        paths: Quoted as their place requires.

    Raises:
        ExpressionError: an expression is broken, one outside of ``$[[...]]`` has no value, or a path needs quotes and the
            command cannot be parsed.
        MissingExtraError: a path needs quotes, and ``shfmt`` is not installed.
    """
    text, known = _marked(command, values, paths), list(paths.values())
    marked = [known[int(number)] for number in _MARK.findall(text)]
    if all(path == shlex.quote(path) for path in marked):
        return _put_back(text, known)
    word = "path_"
    while word in text:
        word += "_"
    source, tree = _parsed(_MARK.sub(word, text))
    try:
        places = list(_places(tree, _Place("word"), source))
    except RecursionError as error:
        raise ExpressionError("the command is nested too deeply") from error
    result, done = "", 0
    for match, path in zip(re.finditer(word.encode(), source), marked, strict=True):
        found = (place for begin, end, place in places if begin <= match.start() < end)
        place = next(found, _Place("word"))
        before = source[done : match.start()].decode(*_CODEC)
        if (len(before) - len(before.rstrip("\\"))) % 2:  # it would escape the path's first character
            before = before[:-1] if place.kind == "word" else before + "\\" * place.is_quoted
        result += before + place.quoted(path)
        done = match.end()
    return result + source[done:].decode(*_CODEC)


def render_words(
    arguments: str, values: Mapping[tuple[str, ...], str | None], paths: Mapping[tuple[str, ...], str]
) -> list[str]:
    """Do the same for words that no shell reads, such as the arguments of an entry script: split at blanks, unquoted.

    Raises:
        ExpressionError: as above, or a quotation mark is not closed.
    """
    text = _marked(arguments, values, paths)
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise ExpressionError(f"the arguments cannot be split into words: {error}") from error
    return [_put_back(word, list(paths.values())) for word in words]


def _marked(text: str, values: Mapping[tuple[str, ...], str | None], paths: Mapping[tuple[str, ...], str]) -> str:
    """Insert the values into a text, and a mark for each path."""
    if "\0" in render(text, {**values, **dict.fromkeys(paths, "")}):
        raise ExpressionError("a command cannot contain a zero byte")
    return render(text, {**values, **{parts: f"\0{number}\0" for number, parts in enumerate(paths)}})


def _put_back(text: str, paths: Sequence[str]) -> str:
    """Replace the marks in a text by the paths, unquoted."""
    return _MARK.sub(lambda mark: paths[int(mark[1])], text)


@dataclass(frozen=True)
class _Place:
    """Where in a command a path stands.

    Attributes:
        kind: What directly surrounds it; ``default`` is the operand of ``${x:-...}`` in double quotes.
        backquotes: For each pair of backquotes around it, outermost first, whether that stands in double quotes.
    """

    kind: Literal["word", "single", "ansi", "double", "default", "heredoc", "raw", "comment"]
    backquotes: tuple[bool, ...] = ()

    @property
    def is_quoted(self) -> bool:
        return self.kind in ("double", "default", "heredoc")

    def quoted(self, path: str) -> str:
        """Write a path as this place requires."""
        # Bash cannot be trusted with quotes within quotes in backquotes, so a path there is written in hexadecimal.
        hidden = f"$'{_in_hex(path)}'" if self.backquotes else ""
        written = {
            "word": hidden or shlex.quote(path),
            "single": f"'{hidden}'" if hidden else path.replace("'", "'\\''"),
            "ansi": _in_hex(path),
            "double": f'"{hidden}"' if hidden else _escaped(path, _IN_QUOTES),
            "default": f'"{_escaped(path, _IN_QUOTES)}"',
            "heredoc": _escaped(path, "\\$`"),
            "raw": path,
            "comment": re.sub(r"[^\w./-]", "_", path),
        }[self.kind]
        for within_quotes in reversed(self.backquotes):  # which remove some backslashes before they are read
            written = _escaped(written, '\\`"' if within_quotes else "\\`")
        return written


def _parsed(text: str) -> tuple[bytes, Any]:
    """Parse a command; return it in bytes, and its syntax tree, whose positions count bytes."""
    program, source = _shfmt(), text.encode(*_CODEC)
    while True:
        done = subprocess.run([program, "-tojson", "-ln", "bash"], input=source, capture_output=True, check=False)
        if done.returncode == 0:
            return source, json.loads(done.stdout)
        # If (( turns out not to begin arithmetic, bash reads it as two parentheses; shfmt needs a blank between them.
        reason = done.stderr.decode(*_CODEC).strip()
        line, column = (int(number) for number in re.findall(r"\d+", reason)[:2])
        opening = source.rfind(b"((", 0, sum(len(row) + 1 for row in source.split(b"\n")[: line - 1]) + column)
        if opening < 0:
            raise ExpressionError(f"the command, in which a path needs quotes, cannot be parsed: {reason}")
        source = source[: opening + 1] + b" " + source[opening + 1 :]


def _shfmt() -> str:
    """Find the program of the package, which need not be among the scripts of this Python, or else that of the system."""
    with contextlib.suppress(PackageNotFoundError):
        for file in distribution("shfmt-py").files or ():
            if file.name == "shfmt":
                return str(file.locate())
    if program := shutil.which("shfmt"):
        return program
    raise MissingExtraError("shfmt-py", "train")


def _places(node: Any, place: _Place, source: bytes) -> Iterator[tuple[int, int, _Place]]:
    """Yield every text of a syntax tree: where it begins and ends, and what kind of place that is."""
    if isinstance(node, list):
        for item in node:
            yield from _places(item, place, source)
    if not isinstance(node, dict):
        return
    begin, end = (node.get(key, {}).get("Offset", 0) for key in ("Pos", "End"))
    kind = node.get("Type")
    if "Text" in node:
        yield begin, end, replace(place, kind="comment")
    elif kind == "SglQuoted" and place.kind != "default":  # in which these quotes have no meaning
        yield begin, end, replace(place, kind="ansi" if node.get("Dollar") else "single")
    elif isinstance(node.get("Value"), str):
        yield begin, end, place
    elif kind == "CmdSubst" and node.get("Backquotes"):
        within = _Place("word", (*place.backquotes, place.is_quoted))
        yield from _places(node.get("Stmts"), within, source)
    elif kind in ("CmdSubst", "ProcSubst"):
        yield from _places([node.get("Stmts"), node.get("Last")], replace(place, kind="word"), source)
    elif kind == "DblQuoted":
        yield from _places(node.get("Parts"), replace(place, kind="double"), source)
    elif kind == "ParamExp":
        operand = node.get("Exp") or {}
        is_default = place.is_quoted and not operand.get("Op", "#").startswith(_PATTERN_SIGNS)
        yield from _places(operand, replace(place, kind="default" if is_default else "word"), source)
        yield from _places([node.get("Repl"), node.get("Slice")], replace(place, kind="word"), source)
    else:
        for key, item in node.items():
            within = place
            if key == "Hdoc":
                word = source[node["Word"]["Pos"]["Offset"] : node["Word"]["End"]["Offset"]]
                within = replace(place, kind="raw" if set(word) & set(b"\\'\"") else "heredoc")
            yield from _places(item, within, source)


def _in_hex(path: str) -> str:
    """Write a path for ``$'...'``, without any character that is special to bash."""
    return re.sub(r"[^\w./-]", lambda sign: "".join(f"\\x{byte:02x}" for byte in sign[0].encode(*_CODEC)), path)


def _escaped(text: str, characters: str) -> str:
    return re.sub(rf"([{re.escape(characters)}])", r"\\\1", text)
