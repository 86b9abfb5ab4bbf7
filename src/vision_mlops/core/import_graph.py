"""Which files of a package a module can reach: its imports, also those inside functions, followed in the source.

Nothing is imported. What cannot be read off an import statement is read off the strings: ``"package.module"`` is taken for a
module that is started or imported by name, ``"package.folder."`` for all modules below that, and the name of a file next to
the module for a file that it reads.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from itertools import pairwise
from pathlib import Path

_FILE_NAME = re.compile(r"[\w-]+(\.[\w-]+)+")


class ImportGraph:
    """The modules of an installed package.

    Args:
        root: Folder of the package; its name is that of the package.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._package = root.name
        self._reads: dict[Path, tuple[set[Path], set[Path]]] = {}

    @cached_property
    def _modules(self) -> dict[str, Path]:
        return {self._module_name(path): path for path in sorted(self.root.rglob("*.py"))}

    @property
    def modules(self) -> list[str]:
        """Full names of all modules."""
        return list(self._modules)

    def reached(self, modules: Iterable[str]) -> list[Path]:
        """List the files that modules can reach, including their own.

        Args:
            modules: Their full names, such as ``package.training.fit``.

        Returns:
            Paths relative to the package's folder, sorted.

        Raises:
            KeyError: the package has no such module.
            SyntaxError: a module that is reached is not valid Python.
        """
        return _reached([self._modules[name] for name in modules], self._read, self.root)

    def imported_by(self, file: Path) -> set[str]:
        """Return the modules that a Python file outside the package imports; all of them if it is not valid Python."""
        source = file.read_bytes()
        if self._package.encode() not in source:
            return set()
        try:
            return self._needed(ast.parse(source, str(file)), "") & self._modules.keys()
        except (SyntaxError, ValueError):  # of another version of Python; a zero byte
            return set(self._modules)

    def _module_name(self, path: Path) -> str:
        parts = path.relative_to(self.root).with_suffix("").parts
        return ".".join((self._package, *(parts[:-1] if parts[-1] == "__init__" else parts)))

    def _read(self, path: Path) -> tuple[set[Path], set[Path]]:
        """Return the modules that one needs directly, and the files next to it that it names."""
        if path not in self._reads:
            name = self._module_name(path)
            above = name.rpartition(".")[0]
            tree = ast.parse(path.read_bytes(), str(path))
            # Importing a module imports the packages above it.
            needed = {*self._needed(tree, name if path.name == "__init__.py" else above), above}
            modules = {self._modules[each] for each in needed & self._modules.keys()}
            self._reads[path] = modules, _files_named(tree, path.parent)
        return self._reads[path]

    def _needed(self, tree: ast.Module, package: str) -> set[str]:
        """Return the names of what the source of a module imports or starts; not all of them are modules."""
        needed: set[str] = set()
        for node in _executed(tree):
            if isinstance(node, ast.Import | ast.ImportFrom):
                needed |= _imports(node, package)
            elif isinstance(node, ast.List | ast.Tuple):
                needed |= _started(node.elts)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                needed |= set(self._named(node.value))
        return needed

    def _named(self, text: str) -> Iterator[str]:
        """Yield the modules that a string stands for."""
        if text.startswith(f"{self._package}."):
            yield from (name for name in self._modules if name == text or (text[-1] == "." and name.startswith(text)))


def files_beside(file: Path, root: Path) -> list[Path]:
    """List the files below a folder on Python's path that a Python file in it can reach, including itself.

    They are Python files, and other files next to one that names them, as in :class:`ImportGraph`.

    Args:
        file: The file that begins.
        root: The folder.

    Returns:
        Paths relative to the folder, sorted.

    Raises:
        SyntaxError: a file that is reached is not valid Python.
    """

    def read(current: Path) -> tuple[set[Path], set[Path]]:
        tree = ast.parse(current.read_bytes(), str(current))
        package = ".".join(current.relative_to(root).parent.parts)
        names = {
            name
            for node in _executed(tree)
            if isinstance(node, ast.Import | ast.ImportFrom)
            for name in _imports(node, package)
            if name and not name.startswith(".")  # as a relative import has it where there is no package
        }
        # Importing a module imports the packages above it.
        places = {root.joinpath(*name.split(".")[:end]) for name in names for end in range(1, name.count(".") + 2)}
        options = {option for place in places for option in (place.with_suffix(".py"), place / "__init__.py")}
        return {option for option in options if option.is_file()}, _files_named(tree, current.parent)

    above = [root / folder / "__init__.py" for folder in file.relative_to(root).parents if folder != Path()]
    return _reached([file, *(each for each in above if each.is_file())], read, root)


def _reached(start: list[Path], read: Callable[[Path], tuple[set[Path], set[Path]]], root: Path) -> list[Path]:
    """Follow what files need, reading each once, and return them and the files that they name, relative to a folder."""
    waiting, seen, named = list(start), set[Path](), set[Path]()
    while waiting:
        current = waiting.pop()
        if current not in seen:
            seen.add(current)
            needed, beside = read(current)
            named |= beside
            waiting += needed - seen
    return sorted(path.relative_to(root) for path in seen | named)


def _imports(node: ast.Import | ast.ImportFrom, package: str) -> set[str]:
    """Return the full names of what a statement imports; not all of them are modules."""
    if isinstance(node, ast.Import):
        return {alias.name for alias in node.names}
    source = _absolute(node, package)
    return {source, *(f"{source}.{alias.name}" for alias in node.names)}


def _files_named(tree: ast.Module, folder: Path) -> set[Path]:
    texts = {node.value for node in _executed(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    return {folder / text for text in texts if _FILE_NAME.fullmatch(text) and (folder / text).is_file()}


def _executed(node: ast.AST) -> Iterator[ast.AST]:
    """Yield all parts of a module except docstrings and what only a type checker reads."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and _is_type_checking(child.test):
            for other in child.orelse:
                yield other
                yield from _executed(other)
        elif not (isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant)):
            yield child
            yield from _executed(child)


def _started(words: list[ast.expr]) -> set[str]:
    """Return what the words of a command start with ``-m``: for a package, its ``__main__``."""
    texts = [word.value if isinstance(word, ast.Constant) else None for word in words]
    names = {after for before, after in pairwise(texts) if before == "-m" and isinstance(after, str)}
    return names | {f"{name}.__main__" for name in names}


def _is_type_checking(test: ast.expr) -> bool:
    name = test.attr if isinstance(test, ast.Attribute) else test.id if isinstance(test, ast.Name) else ""
    return name == "TYPE_CHECKING"


def _absolute(node: ast.ImportFrom, package: str) -> str:
    """Resolve the source of an import; one dot stands for the package of the module itself, each more for one above."""
    if not node.level:
        return node.module or ""
    parts = package.split(".")
    above = parts[: len(parts) - node.level + 1]
    return ".".join((*above, node.module)) if node.module else ".".join(above)
