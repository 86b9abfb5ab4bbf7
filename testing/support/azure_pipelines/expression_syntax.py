"""The grammar of expressions: text to a tree of calls, names and literals."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal

from testing.support.azure_pipelines.expression_values import Value, Version
from testing.support.azure_pipelines.pipeline_errors import PipelineError

_TOKEN = re.compile(
    r"\s*(?:(?P<string>'(?:[^']|'')*')|(?P<version>\d+(?:\.\d+){2,3})(?![\w.])|(?P<number>-?(?:\d+\.?\d*|\.\d+))(?![\w.])"
    r"|(?P<name>[A-Za-z_][A-Za-z0-9_]*)|(?P<mark>[()\[\],.*]))"
)


@dataclass(frozen=True)
class Literal:
    """A value that stands in the text."""

    value: Value


@dataclass(frozen=True)
class Name:
    """A context, or the variable of ``each``."""

    name: str


@dataclass(frozen=True)
class Index:
    """``of[key]`` or ``of.key``."""

    of: Node
    key: Node


@dataclass(frozen=True)
class Wildcard:
    """``of.*``: all values."""

    of: Node


@dataclass(frozen=True)
class Call:
    """A function with what it is given."""

    function: str
    arguments: tuple[Node, ...]


Node = Literal | Name | Index | Wildcard | Call


def parse(text: str) -> Node:
    """The tree of an expression.

    Raises:
        PipelineError: it is not one.
    """
    return _Parser(text).whole()


def walk(node: Node) -> Iterator[Node]:
    """A node and all below it."""
    yield node
    children: tuple[Node, ...] = ()
    if isinstance(node, Call):
        children = node.arguments
    elif isinstance(node, Index):
        children = (node.of, node.key)
    elif isinstance(node, Wildcard):
        children = (node.of,)
    for child in children:
        yield from walk(child)


def path_of(node: Node) -> list[str] | None:
    """Names from a context to a value, ``dependencies.A.outputs['s.v']``; None where one of them is computed."""
    names: list[str] = []
    while isinstance(node, Index):
        if not (isinstance(node.key, Literal) and isinstance(node.key.value, str)):
            return None
        names.append(node.key.value)
        node = node.of
    return [*reversed([*names, node.name])] if isinstance(node, Name) else None


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens: list[tuple[str, str]] = []
        place = 0
        while text[place:].strip():
            found = _TOKEN.match(text, place)
            if not found:
                raise PipelineError(f"unexpected {text[place:].strip()[:1]!r} in the expression {text.strip()!r}")
            assert found.lastgroup
            self._tokens.append((found.lastgroup, found[found.lastgroup]))
            place = found.end()
        self._next = 0

    def whole(self) -> Node:
        node = self._value()
        if self._next < len(self._tokens):
            raise self._wrong()
        return node

    def _wrong(self) -> PipelineError:
        found = self._tokens[self._next][1] if self._next < len(self._tokens) else "the end"
        return PipelineError(f"unexpected {found!r} in the expression {self._text.strip()!r}")

    def _mark(self, mark: str) -> bool:
        if self._tokens[self._next : self._next + 1] == [("mark", mark)]:
            self._next += 1
            return True
        return False

    def _need(self, mark: str) -> None:
        if not self._mark(mark):
            raise self._wrong()

    def _value(self) -> Node:
        if self._next >= len(self._tokens):
            raise self._wrong()
        kind, text = self._tokens[self._next]
        if kind == "mark":
            raise self._wrong()
        self._next += 1
        node: Node
        if kind == "string":
            return Literal(text[1:-1].replace("''", "'"))
        if kind == "version":
            return Literal(Version(tuple(map(int, text.split(".")))))
        if kind == "number":
            return Literal(Decimal(text))
        if text.lower() in ("true", "false", "null"):
            return Literal({"true": True, "false": False, "null": None}[text.lower()])
        node = self._call(text) if self._mark("(") else Name(text)
        return self._followed(node)

    def _call(self, function: str) -> Call:
        arguments: list[Node] = []
        if not self._mark(")"):
            arguments.append(self._value())
            while self._mark(","):
                arguments.append(self._value())
            self._need(")")
        return Call(function, tuple(arguments))

    def _followed(self, node: Node) -> Node:
        while True:
            if self._mark("["):
                node = Index(node, self._value())
                self._need("]")
            elif self._mark("."):
                if self._mark("*"):
                    node = Wildcard(node)
                    continue
                if self._next >= len(self._tokens) or self._tokens[self._next][0] != "name":
                    raise self._wrong()
                node = Index(node, Literal(self._tokens[self._next][1]))
                self._next += 1
            else:
                return node
