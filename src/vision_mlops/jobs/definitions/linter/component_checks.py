"""Checks one component or command job: the text of its command, all other texts, inputs and outputs."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from vision_mlops.core.text import nearest
from vision_mlops.jobs.definitions.definition import Definition
from vision_mlops.jobs.definitions.expressions import BindingReference, ExpressionError, references
from vision_mlops.jobs.definitions.linter.input_checks import check_text
from vision_mlops.jobs.definitions.models.ports import VALUE_TYPES, InputDeclaration, JobInput, literal_problem
from vision_mlops.jobs.definitions.models.steps import CommandComponent, CommandJob, ParallelComponent
from vision_mlops.jobs.definitions.step_graph import ARTIFACTS
from vision_mlops.jobs.definitions.yaml_source import Mapping as Node
from vision_mlops.jobs.definitions.yaml_source import texts

_OUTPUT_MACROS = frozenset({"name", "output_name", "default_datastore", "parent"})


@dataclass
class TextScope:
    """The names that texts may refer to, and those that they did."""

    inputs: Collection[str]
    outputs: Collection[str]
    optional: Collection[str] = ()
    space: Collection[str] | None = None  # None outside of a sweep
    used: set[tuple[str, str]] = field(default_factory=set)


def references_below(definition: Definition, node: Node, keys: Iterable[str]) -> Iterator[tuple[BindingReference, int]]:
    """Yield every reference in the texts below some keys of ``node``, with its line."""
    for key in keys:
        for text, line in texts(node.get(key), node.lines.get(key, node.line)):
            for reference in safe_references(text, definition, line):
                yield reference, line


def safe_references(text: str, definition: Definition, line: int) -> list[BindingReference]:
    """Return the references of a text; a broken expression is a finding."""
    if "${{" not in text and "$[[" not in text:
        return []
    try:
        return list(references(text))
    except ExpressionError as error:
        hint = "for example ${{inputs.NAME}}, $[[ --x ${{inputs.x}} ]]"
        definition.report_line(line, "expression", str(error), hint)
        return []


def check_texts(definition: Definition, node: Node, keys: Iterable[str], scope: TextScope) -> None:
    """Check every text below some keys of ``node``."""
    for reference, line in references_below(definition, node, keys):
        check_reference(reference, definition, line, scope)


def check_reference(reference: BindingReference, definition: Definition, line: int, scope: TextScope) -> None:
    """Check one reference of a text."""
    root, *rest = reference.parts
    if root == "search_space" and len(rest) == 1:
        scope.used.add((root, rest[0]))
        if scope.space is None:
            hint = "use ${{inputs.NAME}}, or make this the trial of a sweep"
            definition.report_line(line, "search-space", f"{reference} is used outside of a sweep", hint)
        elif rest[0] not in scope.space:
            message = f"{reference}: the search space has no {rest[0]!r}"
            definition.report_line(line, "search-space", message, nearest(rest[0], scope.space))
        return
    if root not in ("inputs", "outputs") or len(rest) != 1:
        hint = f"write ${{{{{root}.{rest[0]}}}}}" if root in ("inputs", "outputs") and rest else ""
        hint = hint or "use ${{inputs.NAME}} or ${{outputs.NAME}}"
        definition.report_line(line, "binding", f"{reference} is not valid here", hint)
        return
    name = rest[0]
    scope.used.add((root, name))
    declared = scope.inputs if root == "inputs" else scope.outputs
    if name not in declared:
        message = f"{reference}: no {root[:-1]} {name!r} is declared"
        definition.report_line(line, f"undeclared-{root[:-1]}", message, nearest(name, declared))
    elif root == "inputs" and name in scope.optional and not reference.optional:
        message = f"{reference} is outside of $[[ ]], but the input is optional"
        hint = f"write $[[--{name} {reference}]], or give it a default"
        definition.report_line(line, "optional-input", message, hint)


def check_declarations(definition: Definition, inputs: dict[str, InputDeclaration]) -> None:
    """Check that defaults, enums and bounds fit each other and the type."""
    for name, declared in inputs.items():

        def report(rule: str, message: str, hint: str, key: str, name: str = name) -> None:
            definition.report(rule, f"input {name!r}: {message}", hint, "inputs", name, key)

        if odd := [item for item in declared.enum or () if not _is_enum_item(item, declared.type)]:
            message = f"its enum contains {odd[0]!r}, which is not of type {declared.type}"
            report("input-type", message, "fix or quote it", "enum")
            continue
        bounded = ("min", "max") if declared.type not in ("integer", "number") else ()
        for key in ("enum", *bounded) if declared.type not in VALUE_TYPES else bounded:
            if getattr(declared, key) is not None:
                report("input-type", f"{key} has no meaning for type {declared.type}", f"remove {key}", key)
        if declared.type not in VALUE_TYPES:
            continue
        if not bounded and declared.min is not None and declared.max is not None and declared.min > declared.max:
            report("input-range", f"min {declared.min} is above max {declared.max}", "swap them", "min")
            continue
        if declared.type == "string" and declared.default is not None:
            check_text(definition, f"input {name!r}: default", definition.node["inputs"][name], "default")
        if declared.default is not None and (found := literal_problem(declared.default, declared)):
            report(found[0], f"its default {found[1]}", found[2], "default")
        if declared.path is not None:
            message = f"input {name!r} of type {declared.type} has a path"
            definition.report("value", message, "use default", "inputs", name)


def _is_enum_item(value: object, type_: str) -> bool:
    if type_ == "string":
        return isinstance(value, str)
    return type_ not in VALUE_TYPES or literal_problem(value, InputDeclaration.model_validate({"type": type_})) is None


def check_component(definition: Definition) -> None:
    """Check the declarations and texts of a command or parallel component, and that it uses what it declares."""
    model = definition.model
    assert isinstance(model, CommandComponent | ParallelComponent)
    check_declarations(definition, model.inputs)
    optional = [name for name, item in model.inputs.items() if item.optional and item.default is None]
    _check_whole(definition, TextScope(model.inputs, model.outputs, optional))


def check_job(definition: Definition) -> None:
    """Check a command job: its inputs have values, and its command uses what is declared."""
    model = definition.model
    assert isinstance(model, CommandJob)
    check_job_ports(definition, model.inputs)
    _check_whole(definition, TextScope(model.inputs, model.outputs))


def _check_whole(definition: Definition, scope: TextScope) -> None:
    """Check every text of a definition that runs one command, and that it uses what it declares."""
    keys = [key for key in definition.node if key not in ("inputs", "outputs", "description")]
    check_texts(definition, definition.node, keys, scope)
    report_unused(definition, scope)


def check_job_ports(definition: Definition, inputs: Mapping[str, JobInput]) -> None:
    """Check that every input of a job has a path or a value, and that its outputs go to places of their own."""
    for name, item in inputs.items():
        text = item.path or item.value
        line = definition.line("inputs", name)
        for reference in safe_references(text, definition, line) if isinstance(text, str) else ():
            if len(reference.parts) > 1:
                message = f"input {name!r} of a job cannot be bound to {reference}"
                definition.report_line(line, "binding", message, "give it a path or a value")
        if item.content is None:
            message = f"input {name!r} has neither path nor value"
            definition.report_line(line, "missing-input", message, "add `path: ...`")
    check_outputs(definition, definition.node)


def check_outputs(definition: Definition, node: Node) -> None:
    """Check that no two outputs are written to the same place."""
    seen: dict[str, str] = {}
    outputs = node.get("outputs")
    for name, item in outputs.items() if isinstance(outputs, Node) else ():
        if isinstance(item, str) and node is definition.node:
            message = f"output {name!r} of a job cannot be given as {item!r}"
            definition.report("value", message, "write {type: ..., path: ...}", "outputs", name)
        path = item.get("path") if isinstance(item, Node) else None
        if not isinstance(path, str):
            continue
        line = item.lines["path"]
        for reference in safe_references(path, definition, line):
            if reference.parts[0] not in _OUTPUT_MACROS:
                message = f"{reference} is not valid in the path of an output"
                definition.report_line(line, "binding", message, "use ${{name}} and ${{output_name}}")
        place = path.rstrip("/")
        if place in seen and "${{output_name}}" not in place.replace(" ", ""):
            message = f"outputs {seen[place]!r} and {name!r} have the same path"
            definition.report_line(line, "shared-path", message, "give each a path of its own")
        seen[place] = name


def report_unused(definition: Definition, scope: TextScope, *base: str) -> None:
    """Warn about inputs and outputs that no text refers to."""
    for root, names in (("inputs", scope.inputs), ("outputs", scope.outputs)):
        for name in names:
            if (root, name) not in scope.used and (root, name) != ("outputs", ARTIFACTS):
                message, hint = f"the {root[:-1]} {name!r} is never used", f"use ${{{{{root}.{name}}}}}, or remove it"
                definition.report(f"unused-{root[:-1]}", message, hint, *base, root, name)
