"""Which modules of a package import which, read off the source: at the top, inside functions, and for type checkers only.

:class:`vision_mlops.core.import_graph.ImportGraph` asks another question, which code a command can run: it leaves out what
only type checkers read, and takes in what is started by name.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from pathlib import Path

Graph = dict[str, set[str]]
"""Names, each with those that it imports."""


def module_name(file: Path, package: Path) -> str:
    """Full name of a module; of an ``__init__.py``, that of its package."""
    parts = file.relative_to(package.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def module_files(package: Path) -> dict[str, Path]:
    """The modules of a package by name. A script in a folder that is no package, which nothing can import, is none."""
    files = (file for file in sorted(package.rglob("*.py")) if (file.parent / "__init__.py").is_file())
    return {module_name(file, package): file for file in files}


def imported(file: Path, package: Path) -> set[str]:
    """Full names of what a file imports anywhere, among them names that are no modules.

    ``from package import module`` is an import of the module alone, although Python imports the package above it first.
    """
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            here = module_name(file, package).split(".") + ([""] if file.name == "__init__.py" else [])
            base = (
                ".".join([*here[: -node.level], *([node.module] if node.module else [])]) if node.level else node.module
            )
            names = (f"{base}.{alias.name}" for alias in node.names)
            found |= {name if _is_module(name, package) else str(base) for name in names}
    return found


def _is_module(name: str, package: Path) -> bool:
    path = package.parent.joinpath(*name.split("."))
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


def import_graph(package: Path) -> Graph:
    """The modules of a package, with those of its modules that each imports."""
    files = module_files(package)
    return {name: imported(file, package) & files.keys() - {name} for name, file in files.items()}


def grouped(graph: Mapping[str, set[str]], groups: Mapping[str, str]) -> Graph:
    """The graph of groups of modules.

    Args:
        graph: Of the modules.
        groups: The group of each module; modules that are in none are left out.
    """
    found: Graph = {group: set() for group in groups.values()}
    for name, needed in graph.items():
        if name in groups:
            found[groups[name]] |= {groups[other] for other in needed if other in groups} - {groups[name]}
    return found


def reached(graph: Mapping[str, set[str]], name: str) -> set[str]:
    """All that a name imports, directly or by way of others."""
    waiting, seen = list(graph.get(name, ())), set[str]()
    while waiting:
        other = waiting.pop()
        if other not in seen:
            seen.add(other)
            waiting += graph.get(other, ())
    return seen


def transitive_reduction(graph: Mapping[str, set[str]]) -> Graph:
    """A graph without circles, less the imports that follow from others."""
    below = {name: reached(graph, name) for name in graph}
    return {
        name: {one for one in needed if not any(one in below[other] for other in needed - {one})}
        for name, needed in graph.items()
    }
