"""Every key of a workload is read by something, which is found in the syntax of the source."""

from __future__ import annotations

import ast
from collections import defaultdict
from functools import cache
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel

import vision_mlops
from vision_mlops.config import workload

SOURCE = Path(vision_mlops.__file__).parent
MODULE = Path(workload.__file__)
MODELS: dict[str, type[BaseModel]] = {
    name: item
    for name, item in vars(workload).items()
    if isinstance(item, type) and issubclass(item, BaseModel) and item.__module__ == workload.__name__
}
Reads = dict[str, set[str]]
"""Attributes by the model that they are read of."""


def section(kind: Any) -> str:
    """Name of the model that a key holds, also where it is optional or a list of them."""
    if isinstance(kind, type):
        return kind.__name__ if kind.__name__ in MODELS else ""
    return next((found for each in get_args(kind) if (found := section(each))), "")


SECTIONS = {
    name: {key: found for key, field in model.model_fields.items() if (found := section(field.annotation))}
    for name, model in MODELS.items()
}
BY_KEY = {key: found for sections in SECTIONS.values() for key, found in sections.items()}
"""What an attribute of something else that is named like a section holds, such as ``settings.serving``."""


def named(annotation: ast.AST | None, aliases: dict[str, str]) -> str:
    """The model that an annotation names, in whatever it is wrapped."""
    found = (node.id for node in ast.walk(annotation) if isinstance(node, ast.Name)) if annotation is not None else ()
    return next((model for name in found if (model := aliases.get(name, name)) in MODELS), "")


def aliases_of(tree: ast.Module) -> dict[str, str]:
    """What a module calls the models that it imports under another name."""
    imports = (node for node in tree.body if isinstance(node, ast.ImportFrom) and node.module == workload.__name__)
    return {item.asname: item.name for node in imports for item in node.names if item.asname}


class Reader:
    """Knows which names of a function or class hold a model, and so which keys it reads."""

    def __init__(self, results: dict[str, str], aliases: dict[str, str], owner: str = "") -> None:
        self.results = results
        self.aliases = aliases
        self.attributes: dict[str, str] = {}  # of self
        self.names = {"self": owner}
        self.reads: Reads = defaultdict(set)

    def holds(self, node: ast.AST | None) -> str:
        """The model that an expression holds; empty where it is something else."""
        match node:
            case ast.Name(id=name):
                return self.names.get(name, "")
            case ast.Attribute(value=ast.Name(id="self"), attr=attribute) if found := self.attributes.get(attribute):
                return found
            case ast.Attribute(value=value, attr=attribute):
                owner = self.holds(value)
                return SECTIONS[owner].get(attribute, "") if owner else BY_KEY.get(attribute, "")
            case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)):
                return self.results.get(name, "")
            case ast.BoolOp(values=values):
                return next((found for value in values if (found := self.holds(value))), "")
            case ast.IfExp(body=body, orelse=other):
                return self.holds(body) or self.holds(other)
            case ast.Subscript(value=value) | ast.NamedExpr(value=value) | ast.Starred(value=value):
                return self.holds(value)
        return ""

    def read(self, part: ast.AST) -> None:
        """Learn the names, then take down what is read; twice, as a name may come from one that is set further below."""
        nodes = list(ast.walk(part))
        for node in nodes + nodes:
            match node:
                case ast.arg(arg=name, annotation=annotation) if found := named(annotation, self.aliases):
                    self.names[name] = found
                case ast.AnnAssign(target=ast.Name(id=name), annotation=annotation) if found := named(
                    annotation, self.aliases
                ):
                    self.names[name] = self.attributes[name] = found  # a field, where it stands in a class
                case ast.Assign(targets=targets, value=value):
                    self._bind(targets, value)
                case ast.NamedExpr(target=target, value=value):
                    self._bind([target], value)
                case ast.For(target=target, iter=value) | ast.comprehension(target=target, iter=value):
                    self._bind([target], value)
        for node in nodes:
            if isinstance(node, ast.Attribute) and (owner := self.holds(node.value)):
                self.reads[owner].add(node.attr)

    def _bind(self, targets: list[ast.expr], value: ast.expr) -> None:
        for target in targets:
            match target, value:
                case ast.Name(id=name), _ if found := self.holds(value):
                    self.names[name] = found
                case ast.Attribute(value=ast.Name(id="self"), attr=attribute), _ if found := self.holds(value):
                    self.attributes[attribute] = found
                case ast.Tuple(elts=names), ast.Tuple(elts=values) if len(names) == len(values):
                    for each, its in zip(names, values, strict=True):
                        self._bind([each], its)


@cache
def reads_of_the_source() -> Reads:
    """All that is read outside the module of the models, and by those of their properties that are read there."""
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in SOURCE.rglob("*.py")}
    results = {name: name for name in MODELS}
    for tree in trees.values():
        aliases = aliases_of(tree)
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (found := named(node.returns, aliases)):
                results[node.name] = found
    reads: Reads = defaultdict(set)
    for path, tree in trees.items():
        for part in tree.body if path != MODULE else []:
            reader = Reader(results, aliases_of(tree))
            reader.read(part)
            for owner, keys in reader.reads.items():
                reads[owner] |= keys
    properties = [
        (model.name, node)
        for model in trees[MODULE].body
        if isinstance(model, ast.ClassDef)
        for node in model.body
        if isinstance(node, ast.FunctionDef)
    ]
    for _ in properties:  # one may read another
        for owner, node in properties:
            if node.name in reads[owner]:
                reader = Reader(results, {}, owner)
                reader.read(node)
                for found, keys in reader.reads.items():
                    reads[found] |= keys
    return reads


def test_every_key_is_read_by_something() -> None:
    reads = reads_of_the_source()
    unread = [f"{name}.{key}" for name, model in MODELS.items() for key in model.model_fields if key not in reads[name]]
    assert not unread, f"nothing reads {', '.join(unread)}: read them, or remove them"


def test_a_key_that_nothing_reads_is_found() -> None:
    """Else the test above might take anything for a read."""
    assert "port" in reads_of_the_source()["Serving"]
    reader = Reader({}, {})
    reader.read(
        ast.parse("def f(serving: Serving, state): return serving.workers + state.port + state.serving.max_queue")
    )
    assert reader.reads["Serving"] == {"workers", "max_queue"}
