"""Resolves every binding of a job into the steps that run: :func:`resolve` for the engine, :func:`plan` for people."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from vision_mlops.jobs.definitions.definition import COMPONENTS, JOBS, Definition
from vision_mlops.jobs.definitions.expressions import sole
from vision_mlops.jobs.definitions.findings import Findings
from vision_mlops.jobs.definitions.linter.linter import Linter
from vision_mlops.jobs.definitions.linter.sweep_checks import TRIALS
from vision_mlops.jobs.definitions.models.azure_only import AzureStep, way_of, words_of
from vision_mlops.jobs.definitions.models.ports import InputDeclaration, JobOutput, OutputDeclaration
from vision_mlops.jobs.definitions.models.steps import (
    ComponentStep,
    PipelineComponent,
    PipelineJob,
    SweepJob,
    SweepStep,
)
from vision_mlops.jobs.definitions.overrides import Change
from vision_mlops.jobs.definitions.plan.bindings import (
    BindingScope,
    Origins,
    as_declared,
    defaults_of,
    settled,
    shown,
    source_of,
)
from vision_mlops.jobs.definitions.plan.nodes import (
    DataInput,
    JobPlan,
    Node,
    OutputTarget,
    PlannedStep,
    SearchedValue,
    Source,
)
from vision_mlops.jobs.definitions.plan.step_settings import step_settings, unused_of
from vision_mlops.jobs.definitions.referenced_files import Files
from vision_mlops.jobs.definitions.step_graph import ordered, ports_of

Registered = Callable[[str], Path | None]


def plan(path: Path) -> list[PlannedStep]:
    """Return the steps of a job or component as text, each after those whose outputs it reads.

    Raises:
        PipelineError: the file has errors; the message is the first one, and counts the others.
    """
    found = resolve(path, among=(*JOBS, *COMPONENTS))
    bound = {origin[:2]: f"outputs.{key}" for key, origin in found.outputs.items() if len(found.nodes) > 1}
    return [_as_text(node, bound) for node in found.nodes]


def resolve(
    path: Path,
    *,
    changes: Sequence[Change] = (),
    registered: Registered | None = None,
    among: tuple[str, ...] = JOBS,
) -> JobPlan:
    """Check a job and resolve its bindings.

    Args:
        path: Definition.
        changes: The changes of ``--set``, applied to the file.
        registered: Returns the file of a registered component (``azureml:NAME:VERSION``), or None; without it such
            components stay unknown.
        among: Accepted kinds of definitions.

    Raises:
        PipelineError: the file has errors; the message is the first one, and counts the others.
    """
    findings = Findings()
    linter = Linter(path, findings, changes=changes, registered=registered)
    definition = linter.checked(among)
    return replace(_Resolver(linter.files).plan(definition), warnings=tuple(findings))


class _Resolver:
    def __init__(self, files: Files) -> None:
        self._files = files
        self._nodes: list[Node] = []

    def plan(self, definition: Definition) -> JobPlan:
        model: Any = definition.model
        inputs = _own_inputs(definition)
        if isinstance(model, PipelineJob) and model.component is not None:
            component = self._files.component(model.component, definition, ("component",), ("pipelineComponent",))
            taken = {**defaults_of(component), **self._taken(model, component, inputs)} if component else {}
            origins = self._pipeline(component, "", taken) if component else {}
        elif isinstance(model, PipelineJob | PipelineComponent):
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
            target = _target(declared, getattr(declared, "type", None) or written.type, definition)
            outputs[key] = (step, output, target)
        settings = getattr(model, "settings", None)
        return JobPlan(
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
        """Add the steps of a pipeline; return which step writes each of its outputs."""
        model: Any = definition.model
        written: dict[str, Origins] = {}
        sources: dict[str, dict[str, Source]] = {}
        outputs: Origins = {}
        for name in ordered(model.jobs)[0]:
            step = model.jobs[name]
            component = self._component(definition, name, step)
            types = ports_of(step, component).inputs or {}
            scope = BindingScope(definition.file, given, sources, written, types)
            inputs = scope.inputs(step)
            sources[name] = {**(defaults_of(component) if component else {}), **inputs}
            if component is not None and isinstance(component.model, PipelineComponent):
                inner = {**defaults_of(component), **self._taken(step, component, inputs)}
                written[name] = self._pipeline(component, f"{prefix}{name}/", inner)
            else:
                node = self._node(definition, step, component, f"{prefix}{name}", inputs, scope)
                written[name] = {key: (node.step, key) for key in node.outputs}
            for key, value in step.outputs.items():
                target = sole(value.path)
                if target is not None and target.parts[:2] == ("parent", "outputs") and key in written[name]:
                    outputs[target.parts[2]] = written[name][key]
                if component is not None and isinstance(component.model, PipelineComponent) and key in written[name]:
                    self._lead(written[name][key], _target(value, None, definition))
        return outputs

    def _lead(self, origin: tuple[str, str], outer: OutputTarget) -> None:
        """Redirect an output of a nested pipeline to where the step that runs this pipeline writes it."""
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
        if isinstance(step, ComponentStep | AzureStep) and step.component is not None:
            return self._files.component(step.component, definition, ("jobs", name, "component"))
        return None

    def _node(
        self,
        definition: Definition,
        step: Any,
        component: Definition | None,
        name: str,
        inputs: Mapping[str, Source],
        scope: BindingScope | None = None,
    ) -> Node:
        inputs = self._taken(step, component, inputs)
        declared: Mapping[str, InputDeclaration] = ports_of(step, component).inputs or {}
        if definition.kind in COMPONENTS and step is definition.model:
            declared = getattr(definition.model, "inputs", {})
        space = getattr(step, "search_space", {})
        filled = {**(defaults_of(component) if component else {}), **inputs}
        filled |= {key: SearchedValue(key) for key in declared if key in space}
        filled = {key: as_declared(name, key, source, declared.get(key)) for key, source in filled.items()}
        names = dict.fromkeys([*declared, *filled])
        reference = getattr(step, "component", getattr(step, "trial", ""))
        shown_as = reference if isinstance(reference, str) and reference else "inline"
        if not reference and step is definition.model:
            shown_as = definition.file.name
        types = ports_of(step, component).outputs or {}
        if component is None:
            types = {key: _bound_type(step.outputs.get(key), definition) or type_ for key, type_ in types.items()}
        targets = {key: _target(step.outputs.get(key), types.get(key), definition) for key in {**types, **step.outputs}}
        foreign = next((model for model in (step, component and component.model) if words_of(model)), None)
        runs: dict[str, Any] = {
            "command": "",
            "file": definition.file,
            "needs_azure": (words_of(foreign), way_of((getattr(foreign, "model_extra", None) or {}).get("task"))),
        }
        if foreign is None:
            text = scope.text if scope else str
            own = partial(settled, name, definition, scope, filled)
            runs = step_settings(definition, step, component, text, own)
        node = Node(
            step=name,
            type=getattr(step, "type", None) or (component.type if component else "command"),
            component=shown_as,
            inputs={key: filled[key] for key in names if key in filled},
            outputs=targets,
            declared=declared,
            sweep=step if isinstance(step, SweepStep | SweepJob) else None,
            **runs,
        )
        self._nodes.append(node)
        return node

    @staticmethod
    def _taken(step: Any, component: Definition | None, inputs: Mapping[str, Source]) -> Mapping[str, Source]:
        """Return the inputs that a step gets; like Azure ML, leave out those that its component does not declare."""
        declared = ports_of(step, component).inputs
        return inputs if declared is None else {key: source for key, source in inputs.items() if key in declared}


def _own_inputs(definition: Definition) -> dict[str, Source]:
    """Return the sources of the inputs of the outermost definition; those of a component without a job stay open."""
    model: Any = definition.model
    if definition.kind in COMPONENTS:
        open_ = {
            key: DataInput(f"${{{{inputs.{key}}}}}", item.type, item.mode, definition.file.parent, open=True)
            for key, item in model.inputs.items()
            if item.required
        }
        return {**open_, **defaults_of(definition)}
    return {key: source_of(value, None, definition.file) for key, value in model.inputs.items()}


def _bound_type(value: JobOutput | None, definition: Definition) -> str | None:
    """Return the type of the pipeline's output that an untyped output of an inline step is bound to; None without one."""
    target = sole(value.path) if value is not None and value.type is None else None
    if target is None or target.parts[:2] != ("parent", "outputs"):
        return None
    return getattr(getattr(definition.model, "outputs", {}).get(target.parts[2]), "type", None)


def _target(value: JobOutput | OutputDeclaration | None, type_: str | None, definition: Definition) -> OutputTarget:
    """Return where an output goes. A binding to an output of the pipeline is resolved elsewhere."""
    item = value if isinstance(value, JobOutput) else JobOutput()
    reference = sole(item.path)
    path = None if reference and reference.parts[0] == "parent" else item.path
    type_ = type_ or item.type or "uri_folder"
    return OutputTarget(type_, item.mode, path, item.name, item.version, definition.file.parent)


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
