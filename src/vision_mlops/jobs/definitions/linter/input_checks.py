"""Checks which inputs of a component or job are given: none that it does not have, and all that it requires."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from vision_mlops.core.text import nearest
from vision_mlops.jobs.definitions.definition import Definition
from vision_mlops.jobs.definitions.findings import Findings
from vision_mlops.jobs.definitions.models.ports import InputDeclaration
from vision_mlops.jobs.definitions.yaml_source import Mapping as Node
from vision_mlops.jobs.definitions.yaml_source import Sequence


def check_known(
    definition: Definition, given: Iterable[str], known: Iterable[str], owner: str, findings: Findings, *base: str
) -> None:
    """Each input that is given should exist; Azure ML leaves out those that do not.

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
            message = f"{owner} has no input {name!r}, so that it is left out"
            findings.report(definition.file, line, "surplus-input", message, nearest(name, names))


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
            findings.report(definition.file, line, "missing-input", message, f"add `{name}: ...` to its inputs")


def check_written(definition: Definition, findings: Findings) -> None:
    """Environment variables and tags are text: what YAML reads as another value arrives in the form of that value.

    Tags of jobs and components are not looked at here: their models take nothing but text.
    """
    for node in _nodes(definition.node):
        variables = node.get("environment_variables")
        for key in variables if isinstance(variables, Node) else ():
            assert isinstance(variables, Node)
            check_text(definition, f"environment variable {key!r}", variables, key, findings)
    jobs = definition.node.get("jobs")
    for node in (definition.node, *(jobs.values() if isinstance(jobs, Node) else ())):
        tags = node.get("tags") if isinstance(node, Node) else None
        for key, value in tags.items() if isinstance(tags, Node) else ():
            assert isinstance(tags, Node)
            if isinstance(value, Node | Sequence):
                message = f"tag {key!r} is a {'mapping' if isinstance(value, Node) else 'list'}, but tags are text"
                findings.report(definition.file, tags.lines[key], "text-value", message, "write text")
            elif value is not None:
                check_text(definition, f"tag {key!r}", tags, key, findings, "is kept")


def check_text(
    definition: Definition, where: str, node: Node, key: str, findings: Findings, fate: str = "a command gets"
) -> None:
    """Warn of a value that is not the text that somebody wrote: ``no`` is False, ``1.10`` is 1.1."""
    value, written = node[key], node.written.get(key)
    if written is None or isinstance(value, str):  # --set has put a text there
        return
    message = f"{where}: YAML reads {written} as {value}, and that is the text that {fate}"
    findings.report(definition.file, node.lines[key], "text-value", message, f'quote it: "{written}"')


def _nodes(value: Any) -> Iterable[Node]:
    """Every mapping of a file."""
    if isinstance(value, Node):
        yield value
    for item in value.values() if isinstance(value, Node) else value if isinstance(value, Sequence) else ():
        yield from _nodes(item)
