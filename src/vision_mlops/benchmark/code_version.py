"""The version of a contestant's code: a hash of the files that it can reach, so that a change is noticed."""

from __future__ import annotations

import sys
from modulefinder import ModuleFinder
from pathlib import Path

import vision_mlops
from vision_mlops.benchmark.contestant import Contestant
from vision_mlops.core.hashing import Fingerprints
from vision_mlops.core.import_graph import ImportGraph

_PACKAGE = Path(vision_mlops.__file__).parent


def code_version(kind: type[Contestant]) -> str:
    """Hash of the code of a contestant.

    For a shipped one that is all that it can reach in this package; for one in a service, whose result may have cost money,
    only its own folder. For one of somebody's own, its file, the files beside it that it imports, and what these reach here.
    """
    module = kind.__module__
    graph = ImportGraph(_PACKAGE)
    if module in graph.modules:
        files = graph.reached([module])
        if in_a_service(kind):
            own = Path(str(sys.modules[module].__file__)).parent.relative_to(_PACKAGE)
            files = [file for file in files if file.is_relative_to(own)]
        return _hash(_PACKAGE, files)
    root, files = _own_files(module)
    reached = graph.reached(set().union(*(graph.imported_by(root / file) for file in files)))
    return _hash(root, files) + _hash(_PACKAGE, reached)


def in_a_service(kind: type[Contestant]) -> bool:
    """Whether a contestant uses a service that costs money, to learn or to predict."""
    return kind.hosted or kind.usage is not Contestant.usage


def _own_files(module: str) -> tuple[Path, list[Path]]:
    """The folder that a module was imported from; and the files in it that it reaches, itself included, relative to it."""
    file = Path(str(sys.modules[module].__file__)).resolve()
    root = file.parents[module.count(".") + (file.name == "__init__.py")]
    finder = ModuleFinder(path=[str(root)])
    finder.import_hook(module)
    found = {Path(name).resolve() for each in finder.modules.values() if (name := getattr(each, "__file__", None))}
    return root, sorted(path.relative_to(root) for path in found | {file} if path.is_relative_to(root))


def _hash(root: Path, files: list[Path]) -> str:
    with Fingerprints() as fingerprints:
        return fingerprints.of_files(root, [file.as_posix() for file in files])[:16]
