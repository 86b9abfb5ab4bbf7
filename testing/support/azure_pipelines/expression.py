"""Expressions evaluated: ``${{ }}`` when templates are expanded, ``$[ ]`` and conditions when the pipeline runs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from testing.support.azure_pipelines.expression_functions import FUNCTIONS, LAZY, Function
from testing.support.azure_pipelines.expression_syntax import Call, Index, Literal, Name, Node, Wildcard, parse
from testing.support.azure_pipelines.expression_values import (
    Names,
    NotConvertibleError,
    Value,
    is_list,
    to_bool,
    to_text,
)
from testing.support.azure_pipelines.pipeline_errors import PipelineError

OPENING = "${{"
MACRO = re.compile(r"\$\(([A-Za-z_][\w.\- ]*)\)")
"""``$(name)``; what a shell writes alike, ``$(ls -l x/y)``, has a character that names have not, or no such variable."""


@dataclass
class Scope:
    """What an expression may name.

    Attributes:
        contexts: ``parameters``, ``variables``, ``dependencies`` and so on, and the variables of ``each``.
        functions: Those of this place, besides the general ones.
        strict: Names below these contexts must be known.
    """

    contexts: Mapping[str, Value]
    functions: Mapping[str, Function] = field(default_factory=dict)
    strict: tuple[str, ...] = ("parameters",)

    def with_names(self, **more: Value) -> Scope:
        """The same with more contexts."""
        return Scope({**self.contexts, **more}, self.functions, self.strict)

    def evaluate(self, text: str) -> Value:
        """The value of an expression.

        Raises:
            PipelineError: it is not one, or names what is not known here.
        """
        return self._node(parse(text), text)

    def holds(self, text: str) -> bool:
        """Whether a condition does."""
        return to_bool(self.evaluate(text))

    def _node(self, node: Node, text: str) -> Value:
        if isinstance(node, Literal):
            return node.value
        if isinstance(node, Name):
            known = {name.lower(): value for name, value in self.contexts.items()}
            if node.name.lower() not in known:
                raise PipelineError(f"unknown name {node.name!r} in the expression {text.strip()!r}")
            return known[node.name.lower()]
        if isinstance(node, Call):
            return self._call(node, text)
        holder = self._node(node.of, text)
        if isinstance(node, Wildcard):
            return list(holder.values()) if isinstance(holder, Mapping) else list(holder or [])
        return self._item(node, holder, self._node(node.key, text), text)

    def _item(self, node: Index, holder: Value, key: Value, text: str) -> Value:
        if isinstance(node.of, Wildcard):
            return [item[key] for item in holder if isinstance(item, Mapping) and key in item]
        if is_list(holder) and isinstance(key, Decimal):
            return holder[int(key)] if 0 <= int(key) < len(holder) else None
        if isinstance(holder, Mapping):
            names = holder if isinstance(holder, Names) else Names(holder)
            if to_text(key) in names:
                return names[to_text(key)]
            if isinstance(node.of, Name) and node.of.name.lower() in self.strict:
                raise PipelineError(f"{node.of.name}.{to_text(key)} is not known in the expression {text.strip()!r}")
        return None

    def _call(self, node: Call, text: str) -> Value:
        name = node.function.lower()
        found = self.functions.get(name) or FUNCTIONS.get(name)
        if found is None:
            raise PipelineError(f"unknown function {node.function!r} in the expression {text.strip()!r}")
        fewest, most, function = found
        if len(node.arguments) < fewest or (most is not None and len(node.arguments) > most):
            raise PipelineError(f"{node.function} with {len(node.arguments)} values in the expression {text.strip()!r}")
        if name in LAZY:
            return self._lazily(name, node, text)
        return function(*(self._node(argument, text) for argument in node.arguments))

    def _lazily(self, name: str, node: Call, text: str) -> Value:
        if name == "iif":
            condition, then, otherwise = node.arguments
            return self._node(then if to_bool(self._node(condition, text)) else otherwise, text)
        decides = name == "or"
        for argument in node.arguments:
            if to_bool(self._node(argument, text)) == decides:
                return decides
        return not decides


def pieces(text: str) -> Iterator[tuple[bool, str]]:
    """The parts of a text: expressions between ``${{`` and ``}}`` (True), and what is between them.

    Raises:
        PipelineError: an expression has no end.
    """
    place = 0
    while (start := text.find(OPENING, place)) >= 0:
        if start > place:
            yield False, text[place:start]
        end, quoted = start + len(OPENING), False
        while not (not quoted and text.startswith("}}", end)):
            if end >= len(text):
                raise PipelineError(f"no }}}} ends the expression in {text!r}")
            quoted ^= text[end] == "'"
            end += 1
        yield True, text[start + len(OPENING) : end]
        place = end + 2
    if place < len(text):
        yield False, text[place:]


def interpolated(text: str, scope: Scope) -> Value:
    """A text with its ``${{ }}``; where it is nothing but one expression, that one's value, whatever its kind."""
    parts = list(pieces(text.strip())) if text.strip().startswith(OPENING) else list(pieces(text))
    if len(parts) == 1 and parts[0][0]:
        return scope.evaluate(parts[0][1])
    written = []
    for is_expression, part in parts:
        try:
            written.append(to_text(scope.evaluate(part)) if is_expression else part)
        except NotConvertibleError as error:
            raise PipelineError(f"{part.strip()!r} in {text.strip()!r}: {error}") from error
    return "".join(written)


def with_macros(text: str, value_of: Callable[[str], str | None]) -> str:
    """A text with its ``$(name)``; those of unknown names stay as they are."""

    def put(found: re.Match[str]) -> str:
        value = value_of(found[1])
        return found[0] if value is None else value

    return MACRO.sub(put, text)
