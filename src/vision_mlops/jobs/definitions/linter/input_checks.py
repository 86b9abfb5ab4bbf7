"""Checks which inputs of a component or job are given: none that it does not have, and all that it requires."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from vision_mlops.core.text import nearest
from vision_mlops.jobs.definitions.definition import Definition
from vision_mlops.jobs.definitions.findings import Findings
from vision_mlops.jobs.definitions.models.ports import InputDeclaration


def check_known(
    definition: Definition, given: Iterable[str], known: Iterable[str], owner: str, findings: Findings, *base: str
) -> None:
    """Each input that is given must exist.

    Args:
        definition: Where the inputs are given, as a mapping ``inputs`` below the keys ``base``.
        given: Their names.
        known: Those that there are.
        owner: Who has them, for the message: ``step 'train'``.
        findings: Where mistakes go.
        base: Keys.
    """
    names = list(known)
    for name in given:
        if name not in names:
            line = definition.line(*base, "inputs", name)
            message = f"{owner} has no input {name!r}"
            findings.error(definition.file, line, "unknown-input", message, nearest(name, names))


def check_required(
    definition: Definition,
    given: Iterable[str],
    declared: Mapping[str, InputDeclaration],
    owner: str,
    findings: Findings,
    *base: str,
) -> None:
    """Each input that is required must be given, or be in a search space. Arguments as for :func:`check_known`."""
    names = list(given)
    for name, item in declared.items():
        if item.required and name not in names:
            line = definition.line(*base, "inputs")
            message = f"{owner}: the input {name!r} ({item.type}) is missing"
            findings.error(definition.file, line, "missing-input", message, f"add `{name}: ...` to its inputs")
