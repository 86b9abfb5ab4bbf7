"""What a definition would run: its steps in order, what each is given, and the command with the values put in."""

from __future__ import annotations

import re
from collections.abc import Mapping as AbstractMapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vision_mlops.exceptions import PipelineError
from vision_mlops.pipeline.definitions import COMPONENTS, JOBS, Definition
from vision_mlops.pipeline.expressions import render, sole
from vision_mlops.pipeline.files import Files
from vision_mlops.pipeline.findings import Findings
from vision_mlops.pipeline.graph import needs, ordered, ports_of
from vision_mlops.pipeline.lint import Linter
from vision_mlops.pipeline.ports import InputDeclaration, JobInput
from vision_mlops.pipeline.steps import ComponentStep, PipelineComponent, PipelineJob, SweepJob, SweepStep
from vision_mlops.pipeline.trials import TRIALS

Values = AbstractMapping[tuple[str, ...], str | None]


@dataclass(frozen=True)
class PlannedStep:
    """One step. ``command`` is empty for steps that a registered component or an entry script defines."""

    step: str
    type: str
    component: str
    needs: list[str]
    inputs: dict[str, str]
    outputs: dict[str, str]
    command: str

    def to_dict(self) -> dict[str, Any]:
        """The step as plain values."""
        return asdict(self)


def plan(path: Path) -> list[PlannedStep]:
    """Steps of a job or component, each after those whose outputs it reads; steps of nested pipelines are NAME/STEP.

    Raises:
        PipelineError: the file has errors; the first one is worded, the others are counted.
    """
    findings = Findings()
    linter = Linter(path, findings)
    definition = linter.file((*JOBS, *COMPONENTS))
    if errors := findings.errors:
        first, more = errors[0], len(errors) - 1
        rest = f" (and {more} more: `mlops job lint {path}`)" if more else ""
        raise PipelineError(f"{first.file}:{first.line}: {first.message}", first.suggestion + rest)
    assert definition is not None
    return _expand(definition, linter.files, "", None, [])


def _expand(
    definition: Definition, files: Files, prefix: str, outer: Values | None, before: list[str]
) -> list[PlannedStep]:
    """Steps of a definition. ``outer`` and ``before`` are what a pipeline around it gives its inputs, and its needs."""
    model: Any = definition.model
    if not isinstance(model, PipelineJob | PipelineComponent):
        component = None
        if isinstance(model, SweepJob):
            component = files.component(model.trial, definition, ("trial",), TRIALS)
        return [_single(definition, model, component, model.name or definition.file.stem, {}, [])]
    values = _given(model) if outer is None else outer
    steps: list[PlannedStep] = []
    rows: dict[str, list[str]] = {}  # a step that is itself a pipeline becomes several
    for name in ordered(model.jobs)[0]:
        step: Any = model.jobs[name]
        component = None
        if isinstance(step, SweepStep):
            component = files.component(step.trial, definition, ("jobs", name, "trial"), TRIALS)
        elif isinstance(step, ComponentStep):
            component = files.component(step.component, definition, ("jobs", name, "component"))
        needed = [*before, *(row for other in needs(step) for row in rows[other])]
        first = len(steps)
        if component is not None and isinstance(component.model, PipelineComponent):
            given = _inputs(step, component, values)
            inner: dict[tuple[str, ...], str | None] = {
                ("parent", "inputs", key): given.get(key) for key in component.model.inputs
            }
            steps += _expand(component, files, f"{prefix}{name}/", inner, needed)
        else:
            steps.append(_single(definition, step, component, f"{prefix}{name}", values, needed))
        rows[name] = [row.step for row in steps[first:]]
    return steps


def _given(model: PipelineJob | PipelineComponent) -> dict[tuple[str, ...], str | None]:
    """Values of the outermost pipeline's inputs; data stays a path."""
    found: dict[tuple[str, ...], str | None] = {}
    for name, item in model.inputs.items():
        text = _text(item) if isinstance(model, PipelineJob) else _text(getattr(item, "default", None))
        if text is not None:
            found["parent", "inputs", name] = text
    return found


def _single(
    definition: Definition, step: Any, component: Definition | None, name: str, values: Values, needed: list[str]
) -> PlannedStep:
    source: Any = component.model if component else step
    inputs = _inputs(step, component, values)
    names = dict.fromkeys([*(ports_of(step, component).outputs or {}), *step.outputs])
    outputs = {key: _target(step.outputs.get(key)) for key in names}
    known: dict[tuple[str, ...], str | None] = {("inputs", key): text for key, text in inputs.items()}
    known |= {("outputs", key): f"${{{{outputs.{key}}}}}" for key in outputs}
    known |= {("search_space", key): f"${{{{search_space.{key}}}}}" for key in getattr(step, "search_space", {})}
    task = getattr(source, "task", None)
    command = f"{task.entry_script} {task.program_arguments or ''}" if task else getattr(source, "command", "")
    reference = getattr(step, "component", getattr(step, "trial", ""))
    shown = reference if isinstance(reference, str) else "inline"
    if not reference:
        shown = definition.file.name if step is definition.model else "inline"
    type_ = getattr(step, "type", None) or (component.type if component else "command")
    text = re.sub(" {2,}", " ", render(command, known)).strip()  # an optional group that is left out leaves two
    return PlannedStep(name, type_, shown, needed, inputs, outputs, text)


def _inputs(step: Any, component: Definition | None, values: Values) -> dict[str, str]:
    """What each input of a step gets; optional ones that get nothing are left out."""
    found: dict[str, str] = {}
    declared = getattr(component.model, "inputs", {}) if component else {}
    for key in (*declared, *(key for key in step.inputs if key not in declared)):
        text = _text(step.inputs.get(key), key)
        reference = sole(text)
        if reference is not None and reference.parts in values:
            text = values[reference.parts]
        elif text is None and key in getattr(step, "search_space", {}):
            text = f"${{{{search_space.{key}}}}}"
        if text is None and key in declared:
            text = _text(declared[key].default)
        if text is not None:
            found[key] = text
    return found


def _text(value: Any, name: str = "") -> str | None:
    if isinstance(value, InputDeclaration):  # of a component that is shown alone
        return f"${{{{inputs.{name}}}}}" if value.required else _text(value.default)
    if isinstance(value, JobInput):
        value = value.path if value.path is not None else value.value
    if isinstance(value, bool):
        return str(value).lower()
    return None if value is None else str(value)


def _target(value: Any) -> str:
    """Where an output goes: an explicit path, or the place that Azure ML or the runner chooses."""
    return (value if isinstance(value, str) else getattr(value, "path", None)) or "(default)"
