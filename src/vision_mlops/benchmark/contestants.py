"""Contestants by name: those that ship, and classes of your own as ``module:Class``."""

from __future__ import annotations

import importlib
import re
from dataclasses import dataclass

from vision_mlops.benchmark.contestant import Contestant
from vision_mlops.config import own_code
from vision_mlops.config.own_code import CodeReference
from vision_mlops.core.errors import MlopsError
from vision_mlops.core.text import nearest

OURS = "ours"
"""The contestant that all others are compared with."""
LOCAL = {
    OURS: "vision_mlops.benchmark.local.our_contestant:OurModel",
    "linear-probe": "vision_mlops.benchmark.local.linear_probe:LinearProbe",
    "knn": "vision_mlops.benchmark.local.nearest_neighbours:NearestNeighbours",
    "from-scratch": "vision_mlops.benchmark.local.small_network:FromScratch",
}
"""They need no account; a benchmark has them where none is named."""
IN_A_SERVICE = {
    "custom-vision": "vision_mlops.benchmark.custom_vision.custom_vision_contestant:CustomVision",
    "automl-images": "vision_mlops.benchmark.automl.automl_contestant:AutomlImages",
}
SHIPPED = {**LOCAL, **IN_A_SERVICE}

NAME = r"[a-z0-9][a-z0-9._-]{0,62}"
"""What a contestant may be called: its results lie in a folder of that name."""


@dataclass(frozen=True, slots=True)
class NamedContestant:
    """A contestant by its name.

    Attributes:
        reference: Reference to find it again: a shipped name, or ``module:Class``.
        kind: Its class.
    """

    reference: str
    kind: type[Contestant]

    @property
    def name(self) -> str:
        """What tables and folders call it."""
        return self.kind.name


def find_contestants(references: list[str]) -> list[NamedContestant]:
    """Return the contestants of the given names, each once; all local ones if no name is given.

    Raises:
        MlopsError: a name is unknown, a module or class is missing or is no contestant, or two have the same name.
    """
    entries = [find_contestant(reference) for reference in references or LOCAL]
    found: dict[str, NamedContestant] = {}
    for entry in entries:
        if found.setdefault(entry.name, entry).kind is not entry.kind:
            raise MlopsError(
                f"{found[entry.name].reference} and {entry.reference} are both called {entry.name!r}",
                "give one of the classes another `name`",
            )
    return list(found.values())


def find_contestant(reference: str) -> NamedContestant:
    """Return one contestant. Raises MlopsError as :func:`find_contestants` does."""
    target = SHIPPED.get(reference, reference)
    module, colon, word = target.partition(":")
    if not colon:
        raise MlopsError(
            f"unknown contestant {reference!r}",
            f"{nearest(reference, SHIPPED)}; give your own as module:Class",
        )
    shipped = reference in SHIPPED
    # A shipped one that lacks a package tells the command line so, which knows the extra that brings it.
    source = importlib.import_module(module) if shipped else own_code.import_module(CodeReference(reference))
    kind = getattr(source, word, None)
    if not (isinstance(kind, type) and issubclass(kind, Contestant)):
        raise MlopsError(
            f"{reference}: the module {module} has no contestant class {word!r}",
            "derive it from vision_mlops.benchmark.contestant.Contestant",
        )
    _check(reference, kind)
    return NamedContestant(reference, kind)


def _check(reference: str, kind: type[Contestant]) -> None:
    name = getattr(kind, "name", "")
    if not isinstance(name, str) or not re.fullmatch(NAME, name):
        raise MlopsError(
            f"{reference}: its name is {name!r}",
            "set `name` to lower case letters, digits, '.', '_' and '-', beginning with a letter or digit",
        )
    if reference not in SHIPPED and name in SHIPPED:
        raise MlopsError(f"{reference}: {name!r} is the name of a contestant that ships", "give `name` another value")
    if missing := sorted(kind.__abstractmethods__):
        raise MlopsError(f"{reference}: {kind.__name__} does not define {' and '.join(missing)}", "define it")
