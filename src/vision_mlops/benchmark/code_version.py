"""The version of a contestant's code: a hash of the files that it can reach, so that a change is noticed."""

from __future__ import annotations

import sys
from pathlib import Path

import vision_mlops
from vision_mlops.benchmark.contestant import Contestant
from vision_mlops.core.hashing import Fingerprints
from vision_mlops.core.import_graph import ImportGraph, files_beside

_PACKAGE = Path(vision_mlops.__file__).parent


def code_version(kind: type[Contestant]) -> str:
    """Return a hash of the code of a contestant.

    For a shipped one that is all that it can reach in this package; for one in a service, whose result may have cost money,
    only its own folder. For a user's class it is its file, the files beside it that it imports, and what these reach here.
    """
    module = kind.__module__
    graph = ImportGraph(_PACKAGE)
    if module in graph.modules:
        files = graph.reached([module])
        if in_a_service(kind):
            own = Path(str(sys.modules[module].__file__)).parent.relative_to(_PACKAGE)
            files = [file for file in files if file.is_relative_to(own)]
        return _hash(_PACKAGE, files)
    file = Path(str(sys.modules[module].__file__)).resolve()
    root = file.parents[module.count(".") + (file.name == "__init__.py")]
    files = files_beside(file, root)
    reached = graph.reached(set().union(*(graph.imported_by(root / each) for each in files if each.suffix == ".py")))
    return _hash(root, files) + _hash(_PACKAGE, reached)


def module_version(module: str) -> str:
    """Return a hash of all that a module of this package can reach in it."""
    return _hash(_PACKAGE, ImportGraph(_PACKAGE).reached([module]))


def in_a_service(kind: type[Contestant]) -> bool:
    """Return whether a contestant uses a service that costs money, to learn or to predict."""
    return kind.hosted or kind.usage is not Contestant.usage


def _hash(root: Path, files: list[Path]) -> str:
    with Fingerprints() as fingerprints:
        return fingerprints.of_files(root, [file.as_posix() for file in files])[:16]
