"""Dotted names in Python code, followed through imports, aliases and variables, without running it."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterator, Mapping
from types import MappingProxyType

from vision_mlops.doctor.migration.v1_names import short_name

_NONE: Mapping[str, str] = MappingProxyType({})
_COPIES = {"list", "tuple", "sorted", "reversed", "iter"}


def names_in(source: str, returns: Mapping[str, str], elements: Mapping[str, str] = _NONE) -> Iterator[tuple[int, str]]:
    """Return line and full name of each import and use of what was imported.

    A variable counts as an instance of the class that it was made with, or that ``returns`` knows a call to return, so that
    ``run.log`` after ``run = Run.get_context()`` is ``azureml.core.Run.log``.

    Args:
        source: Python code.
        returns: Class by the short name of what is called.
        elements: Class of what is in a list or mapping, by the short name of what is called or of the attribute.

    Raises:
        SyntaxError: it is no code for this Python, or is nested too deeply.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # escapes in strings that another Python will refuse
            # A cell of a notebook may use await at its top level.
            tree = compile(source, "<code>", "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        reader = _Reader(returns, elements)
        reader.visit(tree)
    except (ValueError, RecursionError, MemoryError) as error:  # null characters, or no code that a person wrote
        raise SyntaxError(str(error) or "it is nested too deeply") from error
    return iter(sorted(reader.found))


class _Reader(ast.NodeVisitor):
    """Reads a module from top to bottom; a name means what it was last bound to."""

    def __init__(self, returns: Mapping[str, str], elements: Mapping[str, str]) -> None:
        self._returns = returns
        self._elements = elements
        self._bound: dict[str, str] = {}
        self._imported: set[str] = set()
        self.found: set[tuple[int, str]] = set()

    def visit_Import(self, node: ast.Import) -> None:
        for item in node.names:
            self.found.add((node.lineno, item.name))
            top = item.name.partition(".")[0]
            self._bind_import(item.asname or top, item.name if item.asname else top)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        if node.level or node.module is None:
            return  # from the repository itself
        for item in node.names:
            name = node.module if item.name == "*" else f"{node.module}.{item.name}"
            self.found.add((node.lineno, name))
            if item.name != "*":
                self._bind_import(item.asname or item.name, name)

    def visit_Name(self, node: ast.Name) -> None:
        # A variable that is only passed on is no use of its own.
        if node.id in self._imported:
            self.found.add((node.lineno, self._bound[node.id]))

    def visit_Attribute(self, node: ast.Attribute) -> None:
        if base := self._name(node.value):
            # The line of the last part, because a chain may span several lines.
            self.found.add((node.end_lineno or node.lineno, f"{base}.{node.attr}"))
        inner: ast.expr = node
        while isinstance(inner, ast.Attribute):
            inner = inner.value
        if not isinstance(inner, ast.Name):
            self.visit(inner)

    def visit_Assign(self, node: ast.Assign) -> None:
        self.visit(node.value)
        for target in node.targets:
            self._bind(target, node.value)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        self.visit(node.annotation)
        if node.value is not None:
            self.visit(node.value)
        known = node.value is not None and self._name(node.value)
        self._bind(node.target, node.value if node.value is not None and known else node.annotation)

    def visit_withitem(self, node: ast.withitem) -> None:
        self.visit(node.context_expr)
        if node.optional_vars is not None:
            self._bind(node.optional_vars, node.context_expr)

    def visit_For(self, node: ast.For) -> None:
        self._bind_element(node)
        for statement in (*node.body, *node.orelse):
            self.visit(statement)

    def visit_ListComp(self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp) -> None:
        # Its variables are gone after it.
        before = self._bound.copy(), self._imported.copy()
        for loop in node.generators:
            self._bind_element(loop)
            for condition in loop.ifs:
                self.visit(condition)
        for part in (node.key, node.value) if isinstance(node, ast.DictComp) else (node.elt,):
            self.visit(part)
        self._bound, self._imported = before

    visit_SetComp = visit_ListComp  # noqa: N815 - as the ast module calls them
    visit_GeneratorExp = visit_ListComp  # noqa: N815
    visit_DictComp = visit_ListComp  # noqa: N815

    def visit_arg(self, node: ast.arg) -> None:
        if node.annotation is not None:
            self.visit(node.annotation)
            self._bind(ast.Name(node.arg), node.annotation)

    def _bind_element(self, loop: ast.For | ast.comprehension) -> None:
        """Bind the variable of a loop to the class of the elements, where it is known."""
        self.visit(loop.iter)
        self._bind(loop.target, ast.Subscript(loop.iter, ast.Constant(0)))

    def _bind_import(self, local: str, name: str) -> None:
        self._bound[local] = name
        self._imported.add(local)

    def _bind(self, target: ast.expr, value: ast.expr) -> None:
        if not isinstance(target, ast.Name):
            self.visit(target)
            return
        self._imported.discard(target.id)
        if name := self._name(value):
            self._bound[target.id] = name
        else:
            self._bound.pop(target.id, None)

    def _name(self, node: ast.expr) -> str:
        """Return the full name of an expression, or of the class that it is an instance of; empty if unknown."""
        if isinstance(node, ast.Name):
            return self._bound.get(node.id, "")
        if isinstance(node, ast.Attribute):
            base = self._name(node.value)
            return self._known(f"{base}.{node.attr}") or f"{base}.{node.attr}" if base else ""
        if isinstance(node, ast.Subscript):
            many = self._many(node.value)
            short = short_name(many)
            return many.removesuffix(short) + self._elements[short] if short in self._elements else ""
        if not isinstance(node, ast.Call):
            return ""
        if isinstance(node.func, ast.Name) and node.func.id == "next" and node.args:
            return self._name(ast.Subscript(node.args[0], ast.Constant(0)))
        if isinstance(node.func, ast.Name) and node.func.id in _COPIES and node.args:
            return self._name(node.args[0])
        # A call keeps the name of what is called if it is unknown what that returns.
        called = self._name(node.func)
        keeps = called.rpartition(".")[2][:1].isupper() or short_name(called) in self._elements
        return self._known(called) or (called if keeps else "")

    def _many(self, node: ast.expr) -> str:
        """Return the name of a list or mapping, also where only its values are used."""
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "values":
            return self._name(node.func.value)
        return self._name(node)

    def _known(self, name: str) -> str:
        """Return the class of what a name is known to return or to be; empty if unknown."""
        short = short_name(name)
        return name.removesuffix(short) + self._returns[short] if short in self._returns else ""
