"""Checks that a component or job is given only inputs that it has, and all that it requires."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from vision_mlops.core.text import nearest
from vision_mlops.jobs.definitions.definition import Definition
from vision_mlops.jobs.definitions.models.ports import InputDeclaration
from vision_mlops.jobs.definitions.yaml_source import Mapping as Node
from vision_mlops.jobs.definitions.yaml_source import Sequence


def check_known(definition: Definition, given: Iterable[str], known: Iterable[str], owner: str, *base: str) -> None:
    """Check that each given input exists; Azure ML leaves out those that do not.

    Args:
        definition: Where the inputs are given, as a mapping ``inputs`` below the keys ``base``.
        given: Their names.
        known: Names of the inputs that exist.
        owner: What has them, for the message: ``step 'train'``.
        base: Keys.
    """
    names = list(known)
    for name in given:
        if name not in names:
            message = f"{owner} has no input {name!r}, so it is left out"
            definition.report("surplus-input", message, nearest(name, names), *base, "inputs", name)


def check_required(
    definition: Definition,
    given: Iterable[str],
    declared: Mapping[str, InputDeclaration],
    owner: str,
    *base: str,
) -> None:
    """Check that each required input is given, or is in a search space. The arguments are those of :func:`check_known`."""
    names = list(given)
    for name, item in declared.items():
        if item.required and name not in names:
            message = f"{owner}: the input {name!r} ({item.type}) is missing"
            definition.report("missing-input", message, f"add `{name}: ...` to its inputs", *base, "inputs")


def check_written(definition: Definition) -> None:
    """Warn of environment variables and tags that YAML does not read as text: they arrive in the form of another value.

    Tags of jobs and components are not checked here: their models accept nothing but text.
    """
    for node in _nodes(definition.node):
        if isinstance(variables := node.get("environment_variables"), Node):
            for key in variables:
                check_text(definition, f"environment variable {key!r}", variables, key)
    jobs = definition.node.get("jobs")
    for node in (definition.node, *(jobs.values() if isinstance(jobs, Node) else ())):
        tags = node.get("tags") if isinstance(node, Node) else None
        for key, value in tags.items() if isinstance(tags, Node) else ():
            assert isinstance(tags, Node)
            if isinstance(value, Node | Sequence):
                message = f"tag {key!r} is a {'mapping' if isinstance(value, Node) else 'list'}, but tags are text"
                definition.report_line(tags.lines[key], "text-value", message, "write text")
            elif value is not None:
                check_text(definition, f"tag {key!r}", tags, key, "is kept")


def check_text(definition: Definition, where: str, node: Node, key: str, fate: str = "a command gets") -> None:
    """Warn of a value that differs from the text in the file: ``no`` is False, ``1.10`` is 1.1."""
    value, written = node[key], node.written.get(key)
    if written is None or isinstance(value, str):  # --set has put a text there
        return
    message = f"{where}: YAML reads {written} as {value}, and that is the text that {fate}"
    definition.report_line(node.lines[key], "text-value", message, f'quote it: "{written}"')


def _nodes(value: Any) -> Iterable[Node]:
    """Yield every mapping of a file."""
    if isinstance(value, Node):
        yield value
    for item in value.values() if isinstance(value, Node) else value if isinstance(value, Sequence) else ():
        yield from _nodes(item)
