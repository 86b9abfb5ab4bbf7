"""Follows every binding of a job down to the steps that run: :func:`resolve` for the runner, :func:`plan` for people."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from vision_mlops.exceptions import PipelineError
from vision_mlops.pipeline.changes import Change
from vision_mlops.pipeline.definitions import COMPONENTS, JOBS, Definition
from vision_mlops.pipeline.expressions import ExpressionError, Reference, references, render, sole
from vision_mlops.pipeline.files import Files
from vision_mlops.pipeline.findings import Findings
from vision_mlops.pipeline.graph import ordered, ports_of
from vision_mlops.pipeline.lint import Linter
from vision_mlops.pipeline.nodes import Data, Node, Plan, PlannedStep, Searched, Source, StepOutput, Target, Value
from vision_mlops.pipeline.ports import (
    VALUE_TYPES,
    InputDeclaration,
    JobInput,
    JobOutput,
    literal_problem,
    literal_text,
)
from vision_mlops.pipeline.running import runs_of, unused_of
from vision_mlops.pipeline.steps import (
    ComponentStep,
    PipelineComponent,
    PipelineJob,
    SweepJob,
    SweepStep,
)
from vision_mlops.pipeline.trials import TRIALS

Registered = Callable[[str], Path | None]
Origins = dict[str, tuple[str, str]]  # output of a pipeline: the step and output that write it


def plan(path: Path) -> list[PlannedStep]:
    """Steps of a job or component as text, each after those whose outputs it reads.

    Raises:
        PipelineError: the file has errors; the first one is worded, the others are counted.
    """
    found = resolve(path, among=(*JOBS, *COMPONENTS))
    bound = {origin[:2]: f"outputs.{key}" for key, origin in found.outputs.items() if len(found.nodes) > 1}
    return [_as_text(node, bound) for node in found.nodes]


def resolve(
    path: Path,
    *,
    changes: Iterable[Change] = (),
    registered: Registered | None = None,
    among: tuple[str, ...] = JOBS,
) -> Plan:
    """Check a job and follow its bindings.

    Args:
        path: Definition.
        changes: What ``--set`` says, laid over the file.
        registered: Gives the file of a registered component (``azureml:NAME:VERSION``), None where there is none;
            without it such components stay unknown.
        among: Kinds of definitions that are wanted.

    Raises:
        PipelineError: the file has errors; the first one is worded, the others are counted.
    """
    findings = Findings()
    linter = Linter(path, findings, changes=changes, registered=registered)
    definition = linter.file(among)
    if errors := findings.errors:
        first, more = errors[0], len(errors) - 1
        rest = f" (and {more} more: `mlops job lint {path}`)" if more else ""
        raise PipelineError(f"{first.file}:{first.line}: {first.message}", first.suggestion + rest)
    assert definition is not None
    return _Resolver(linter.files).plan(definition)


class _Resolver:
    def __init__(self, files: Files) -> None:
        self._files = files
        self._nodes: list[Node] = []

    def plan(self, definition: Definition) -> Plan:
        model: Any = definition.model
        inputs = _own_inputs(definition)
        if isinstance(model, PipelineJob | PipelineComponent):
            origins = self._pipeline(definition, "", inputs)
        else:
            component = None
            if isinstance(model, SweepJob):
                component = self._files.component(model.trial, definition, ("trial",), TRIALS)
            name = re.sub(r"\W+", "_", model.name or definition.file.stem)
            node = self._node(definition, model, component, name, inputs)
            origins = {key: (name, key) for key in node.outputs}
        outputs = {}
        for key, (step, output) in origins.items():
            written = next(node for node in self._nodes if node.step == step).outputs[output]
            declared = model.outputs.get(key)
            outputs[key] = (
                step,
                output,
                _target(declared, getattr(declared, "type", None) or written.type, definition),
            )
        settings = getattr(model, "settings", None)
        return Plan(
            file=definition.file,
            kind=definition.kind,
            name=model.name or definition.file.stem,
            display_name=model.display_name or "",
            experiment=getattr(model, "experiment_name", None) or "",
            nodes=tuple(self._nodes),
            inputs={key: shown(source) for key, source in inputs.items()},
            outputs=outputs,
            settings=settings.model_dump(exclude_none=True) if settings else {},
            tags={key: str(value) for key, value in (model.tags or {}).items()},
            unused=unused_of(model),
        )

    def _pipeline(self, definition: Definition, prefix: str, given: Mapping[str, Source]) -> Origins:
        """Add the steps of a pipeline; returns who writes its outputs."""
        model: Any = definition.model
        written: dict[str, Origins] = {}
        sources: dict[str, dict[str, Source]] = {}
        outputs: Origins = {}
        for name in ordered(model.jobs)[0]:
            step = model.jobs[name]
            component = self._component(definition, name, step)
            scope = _Scope(definition.file, given, sources, written, _types(step, component))
            inputs = scope.inputs(step)
            sources[name] = {**(_defaults(component) if component else {}), **inputs}
            if component is not None and isinstance(component.model, PipelineComponent):
                inner = {**_defaults(component), **inputs}
                written[name] = self._pipeline(component, f"{prefix}{name}/", inner)
            else:
                node = self._node(definition, step, component, f"{prefix}{name}", inputs, scope)
                written[name] = {key: (node.step, key) for key in node.outputs}
            for key, value in step.outputs.items():
                target = sole(value.path if isinstance(value, JobOutput) else value)
                if target is not None and target.parts[:2] == ("parent", "outputs") and key in written[name]:
                    outputs[target.parts[2]] = written[name][key]
                if component is not None and isinstance(component.model, PipelineComponent) and key in written[name]:
                    self._lead(written[name][key], _target(value, None, definition))
        return outputs

    def _lead(self, origin: tuple[str, str], outer: Target) -> None:
        """Let an output of a nested pipeline go where the step that stands for this pipeline wants it."""
        if outer.path is None and outer.name is None:
            return
        step, output = origin
        position = next(number for number, node in enumerate(self._nodes) if node.step == step)
        node = self._nodes[position]
        target = replace(outer, type=node.outputs[output].type)
        self._nodes[position] = replace(node, outputs={**node.outputs, output: target})

    def _component(self, definition: Definition, name: str, step: Any) -> Definition | None:
        if isinstance(step, SweepStep):
            return self._files.component(step.trial, definition, ("jobs", name, "trial"), TRIALS)
        if isinstance(step, ComponentStep):
            return self._files.component(step.component, definition, ("jobs", name, "component"))
        return None

    def _node(
        self,
        definition: Definition,
        step: Any,
        component: Definition | None,
        name: str,
        inputs: Mapping[str, Source],
        scope: _Scope | None = None,
    ) -> Node:
        declared: Mapping[str, InputDeclaration] = getattr(component.model, "inputs", {}) if component else {}
        if definition.kind in COMPONENTS and step is definition.model:
            declared = getattr(definition.model, "inputs", {})
        space = getattr(step, "search_space", {})
        filled = {**(_defaults(component) if component else {}), **inputs}
        filled |= {key: Searched(key) for key in declared if key in space}
        filled = {key: _as_declared(name, key, source, declared.get(key)) for key, source in filled.items()}
        names = dict.fromkeys([*declared, *filled])
        reference = getattr(step, "component", getattr(step, "trial", ""))
        shown_as = reference if isinstance(reference, str) and reference else "inline"
        if not reference and step is definition.model:
            shown_as = definition.file.name
        types = ports_of(step, component).outputs or {}
        targets = {key: _target(step.outputs.get(key), types.get(key), definition) for key in {**types, **step.outputs}}
        node = Node(
            step=name,
            type=getattr(step, "type", None) or (component.type if component else "command"),
            component=shown_as,
            inputs={key: filled[key] for key in names if key in filled},
            outputs=targets,
            declared=declared,
            sweep=step if isinstance(step, SweepStep | SweepJob) else None,
            **runs_of(
                definition,
                step,
                component,
                scope.text if scope else None,
                partial(_settled, name, definition, scope, filled),
            ),
        )
        self._nodes.append(node)
        return node


class _Scope:
    """What the steps of one pipeline may refer to."""

    def __init__(
        self,
        file: Path,
        given: Mapping[str, Source],
        sources: Mapping[str, Mapping[str, Source]],
        written: Mapping[str, Origins],
        types: Mapping[str, InputDeclaration],
    ) -> None:
        self._file = file
        self._given = given
        self._sources = sources
        self._written = written
        self._types = types

    def inputs(self, step: Any) -> dict[str, Source]:
        """Sources of a step's inputs; those bound to an optional input that nobody fills are left out."""
        found = {key: self._source(key, value) for key, value in step.inputs.items()}
        return {key: source for key, source in found.items() if source is not None}

    def text(self, value: str) -> str:
        """Put the values of the pipeline's inputs into a text, such as that of an environment variable."""
        if "${{" not in value or "parent." not in value:
            return value
        try:
            return render(value, self._values(value))
        except ExpressionError as error:
            raise PipelineError(f"{self._file}: {value!r}: {error}", "give the input a value") from error

    def _values(self, text: str) -> dict[tuple[str, ...], str | None]:
        values: dict[tuple[str, ...], str | None] = {}
        for reference in references(text):
            source = self._refer(reference)
            values[reference.parts] = source.text if isinstance(source, Value) else None
        return values

    def _source(self, key: str, value: Any) -> Source | None:
        item = value if isinstance(value, JobInput) else None
        text = (item.path if item.path is not None else item.value) if item else value
        reference = sole(text)
        if reference is not None:
            source = self._refer(reference)
            mode = item.mode if item else None
            if isinstance(source, StepOutput) and mode:
                return StepOutput(source.step, source.output, mode)
            return source
        if isinstance(text, str) and "${{" in text:
            try:
                text = render(text, self._values(text))
            except ExpressionError as error:
                message = f"{self._file}: input {key!r}: {error}; only values can be part of a text"
                raise PipelineError(message, "bind the input to nothing but ${{parent...}}") from error
        return source_of(item, text, self._types.get(key), self._file)

    def _refer(self, reference: Reference) -> Source | None:
        parts = reference.parts
        if parts[:2] == ("parent", "inputs"):
            return self._given.get(parts[2])
        _, _, job, direction, name = parts
        if direction == "inputs":
            return self._sources[job].get(name)
        step, output = self._written[job].get(name, (job, name))
        return StepOutput(step, output)


def _settled(step: str, definition: Definition, scope: _Scope | None, inputs: Mapping[str, Source], text: str) -> str:
    """A text with the values of the pipeline's and of the step's own inputs in it, for a limit or a number."""
    text = scope.text(text) if scope else text
    own: dict[tuple[str, ...], str | None] = {
        ("inputs", key): source.text for key, source in inputs.items() if isinstance(source, Value)
    }
    try:
        return render(text, own)
    except ExpressionError as error:
        if definition.kind in COMPONENTS:  # looked at alone: nobody has given it anything yet
            return ""
        raise PipelineError(f"step {step!r}: {text!r}: {error}", "write a number, or bind it to an input") from error


def _as_declared(step: str, key: str, source: Source, declared: InputDeclaration | None) -> Source:
    """A value as its input is declared: 3.0 for an integer is 3, True for a boolean is true.

    Raises:
        PipelineError: it does not fit, which shows only here where it comes through the inputs of pipelines.
    """
    if declared is None or not isinstance(source, Value) or declared.type not in VALUE_TYPES:
        return source
    text = literal_text(source.text, declared)
    if found := literal_problem(text, declared):
        raise PipelineError(f"step {step!r}: input {key!r}: {found[1]}", found[2])
    return Value(text)


def source_of(item: JobInput | None, text: Any, declared: InputDeclaration | None, file: Path) -> Source:
    """A literal or data in the form that the definition has it. Data is what is written with a path or declared so."""
    is_data = (item is not None and item.path is not None) or (
        declared is not None and declared.type not in VALUE_TYPES
    )
    if not is_data:
        return Value(as_text(text))
    type_ = (item.type if item else None) or (declared.type if declared else None) or "uri_folder"
    mode = (item.mode if item else None) or (declared.mode if declared else None)
    return Data(str(text), type_, mode, file.parent)


def as_text(value: Any) -> str:
    """A value as the text that a command gets: true and false in small letters, as Azure ML writes them."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def shown(source: Source) -> str:
    """A source as a person would write it."""
    if isinstance(source, Value):
        return source.text
    if isinstance(source, Data):
        return source.path
    if isinstance(source, Searched):
        return f"${{{{search_space.{source.name}}}}}"
    return f"${{{{parent.jobs.{source.step}.outputs.{source.output}}}}}"


def _own_inputs(definition: Definition) -> dict[str, Source]:
    """What the inputs of the outermost definition are given; those of a component alone stay open."""
    model: Any = definition.model
    if definition.kind in COMPONENTS:
        open_ = {
            key: Data(f"${{{{inputs.{key}}}}}", item.type, item.mode, definition.file.parent, open=True)
            for key, item in model.inputs.items()
            if item.required
        }
        return {**open_, **_defaults(definition)}
    found: dict[str, Source] = {}
    for key, value in model.inputs.items():
        item = value if isinstance(value, JobInput) else None
        text = (item.path if item.path is not None else item.value) if item else value
        found[key] = source_of(item, text, None, definition.file)
    return found


def _defaults(component: Definition) -> dict[str, Source]:
    found: dict[str, Source] = {}
    for key, item in getattr(component.model, "inputs", {}).items():
        if isinstance(item, InputDeclaration) and (item.default is not None or item.path is not None):
            text = item.default if item.default is not None else item.path
            found[key] = source_of(None, text, item, component.file)
    return found


def _types(step: Any, component: Definition | None) -> Mapping[str, InputDeclaration]:
    return ports_of(step, component).inputs or {}


def _target(value: Any, type_: str | None, definition: Definition) -> Target:
    """Where an output goes. A binding to an output of the pipeline is followed elsewhere."""
    item = value if isinstance(value, JobOutput) else None
    path = item.path if item else None
    if path is not None and (reference := sole(path)) and reference.parts[0] == "parent":
        path = None
    return Target(
        type=type_ or (item.type if item else None) or "uri_folder",
        mode=item.mode if item else None,
        path=path,
        name=item.name if item else None,
        version=item.version if item else None,
        base=definition.file.parent,
    )


def _as_text(node: Node, bound: Mapping[tuple[str, str], str]) -> PlannedStep:
    inputs = {key: shown(source) for key, source in node.inputs.items()}
    script = f"{node.parallel.task.entry_script} " if node.parallel else ""
    command = script + node.describe(inputs)
    return PlannedStep(
        node.step,
        node.type,
        node.component,
        node.needs,
        inputs,
        {key: bound.get((node.step, key)) or target.path or "(default)" for key, target in node.outputs.items()},
        re.sub(" {2,}", " ", command).strip(),  # an optional group that is left out leaves two
    )
