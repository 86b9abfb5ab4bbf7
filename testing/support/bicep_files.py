"""Bicep files as a parser sees them: what each declares, what it refers to, and what it passes to modules.

Parsed, not compiled: there is no type checker here. What can be known from the text is: names, references, parameters.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import tree_sitter_bicep
from tree_sitter import Language, Node, Parser

ROOT = Path(__file__).parents[2] / "infrastructure"
_LANGUAGE = Language(tree_sitter_bicep.language())
_FUNCTION = "call_expression"
_SCOPES = ("for_statement", "lambda_expression")


@dataclass(frozen=True)
class Resource:
    """A resource that a file declares: its type with version, and the object that describes it."""

    symbol: str
    kind: str
    version: str
    existing: bool
    body: Node


@dataclass(frozen=True)
class Module:
    """A use of another file: the names of the parameters that it is given."""

    symbol: str
    path: Path
    given: dict[str, Node]
    conditional: bool


@dataclass
class BicepFile:
    """All declarations of a file. ``parameters`` maps each name to its type, ``required`` those without a default."""

    path: Path
    tree: Node
    parameters: dict[str, str] = field(default_factory=dict)
    required: set[str] = field(default_factory=set)
    allowed: dict[str, set[str]] = field(default_factory=dict)
    variables: dict[str, Node] = field(default_factory=dict)
    resources: dict[str, Resource] = field(default_factory=dict)
    modules: dict[str, Module] = field(default_factory=dict)
    outputs: set[str] = field(default_factory=set)

    @property
    def names(self) -> set[str]:
        """Everything that can be referred to."""
        return {*self.parameters, *self.variables, *self.resources, *self.modules}


def text(node: Node) -> str:
    """Source of a node; of a string, what is in it."""
    found = (node.text or b"").decode()
    return found.strip("'") if node.type == "string" else found


@cache
def read(path: Path) -> BicepFile:
    """Parse a file. Raises ValueError where the grammar does not take it."""
    tree = _parse(path.read_text(encoding="utf-8"), path.name)
    found = BicepFile(path, tree)
    decorators: Node | None = None
    for node in tree.named_children:
        if node.type == "decorators":
            decorators = node
            continue
        _declare(found, node, decorators)
        if node.type != "comment":
            decorators = None
    return found


def read_parameters(path: Path) -> tuple[Path, dict[str, Node]]:
    """The file that a ``.bicepparam`` is for, and the value of each parameter. Raises ValueError."""
    # Assignments are no part of the grammar; written as variables they are, with the same expressions.
    source = re.sub(r"^param (\w+) =", r"var \1 =", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    tree = _parse(source, path.name)
    using = next(node for node in tree.named_children if node.type == "using_statement")
    values = {
        text(node.named_children[0]): node.named_children[-1]
        for node in tree.named_children
        if node.type == "variable_declaration"
    }
    return (path.parent / text(using.named_children[0])).resolve(), values


def properties(node: Node) -> dict[str, Node]:
    """Properties of an object, by name."""
    pairs = (item.named_children for item in node.named_children if item.type == "object_property")
    return {text(pair[0]): pair[-1] for pair in pairs if len(pair) > 1}


def walk(node: Node) -> Iterator[Node]:
    """A node and all below it."""
    yield node
    for child in node.named_children:
        yield from walk(child)


def references(node: Node, bound: frozenset[str] = frozenset()) -> Iterator[str]:
    """Names that an expression refers to, without functions and without what loops and lambdas in it bind."""
    if node.type == "for_statement":
        start = node.child_by_field_name("initializer") or node.named_children[0]
        names = {text(item) for item in walk(start) if not item.named_children}
        for child in node.named_children:
            if child != start:
                yield from references(child, bound | names)
    elif node.type == "lambda_expression":
        *head, body = node.named_children
        names = {text(item) for part in head for item in walk(part) if item.type == "identifier"}
        yield from references(body, bound | names)
    elif node.type == "identifier":
        if text(node) not in bound:
            yield text(node)
    elif node.type == "object_property" and len(node.named_children) > 1:
        key, value = node.named_children[0], node.named_children[-1]
        if key.type != "identifier":  # '${name}': an expression
            yield from references(key, bound)
        yield from references(value, bound)
    else:
        function = node.child_by_field_name("function") if node.type == _FUNCTION else None
        for child in node.named_children:
            if child != function or child.type != "identifier":
                yield from references(child, bound)


def outputs_used(node: Node) -> Iterator[tuple[str, str]]:
    """Module and output of each ``module.outputs.name`` below a node."""
    yield from re.findall(r"\b(\w+)!?\.outputs\.(\w+)", (node.text or b"").decode())


def _parse(source: str, name: str) -> Node:
    tree = Parser(_LANGUAGE).parse(source.encode()).root_node
    for node in walk(tree):
        if node.type == "ERROR" or node.is_missing:
            raise ValueError(f"{name}:{node.start_point.row + 1}: cannot be parsed: {text(node)[:80]!r}")
    if tree.has_error:
        raise ValueError(f"{name}: cannot be parsed")
    return tree


def _declare(found: BicepFile, node: Node, decorators: Node | None) -> None:
    children = node.named_children
    if node.type == "parameter_declaration":
        name = text(children[0])
        found.parameters[name] = text(children[1])
        if len(children) == 2:
            found.required.add(name)
        match = re.search(r"@allowed\(\[(.*?)\]\)", text(decorators) if decorators else "", re.DOTALL)
        if match:
            found.allowed[name] = set(re.findall(r"'([^']*)'", match[1]))
    elif node.type == "variable_declaration":
        found.variables[text(children[0])] = children[-1]
    elif node.type == "output_declaration":
        found.outputs.add(text(children[0]))
    elif node.type == "resource_declaration":
        kind, _, version = text(children[1]).partition("@")
        existing = any(child.type == "existing" for child in node.children)
        found.resources[text(children[0])] = Resource(text(children[0]), kind, version, existing, _body(children[-1]))
    elif node.type == "module_declaration":
        given = properties(properties(_body(children[-1]))["params"])
        path = (found.path.parent / text(children[1])).resolve()
        conditional = children[-1].type == "if_statement"
        found.modules[text(children[0])] = Module(text(children[0]), path, given, conditional)


def _body(node: Node) -> Node:
    """The object of a declaration, below its condition or loop."""
    while node.type != "object":
        node = node.named_children[-1]
    return node


def resources_of(path: Path) -> list[tuple[str, str]]:
    """Type and symbol of each resource that a file and its modules declare, as if all conditions held."""
    found = read(path.resolve())
    own = [(item.kind, item.symbol) for item in found.resources.values() if not item.existing]
    return own + [pair for module in found.modules.values() for pair in resources_of(module.path)]
