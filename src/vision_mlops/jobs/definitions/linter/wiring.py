"""Checks how the steps of a pipeline are wired: bindings exist and fit, and no steps form a cycle."""

from __future__ import annotations

import re
from typing import Any

from vision_mlops.core.text import nearest
from vision_mlops.jobs.definitions.definition import Definition
from vision_mlops.jobs.definitions.expressions import BindingReference, sole
from vision_mlops.jobs.definitions.linter.component_checks import (
    TextScope,
    check_job_ports,
    check_outputs,
    check_reference,
    references_below,
    report_unused,
    safe_references,
)
from vision_mlops.jobs.definitions.linter.control_flow_checks import check_blocks, filled_by_loops
from vision_mlops.jobs.definitions.linter.input_checks import check_known, check_required, check_text
from vision_mlops.jobs.definitions.models.azure_only import BLOCKS, CONTROL_FLOW, AzureStep
from vision_mlops.jobs.definitions.models.ports import (
    VALUE_TYPES,
    InputDeclaration,
    JobInput,
    declared_by,
    differ,
    fits,
    literal_problem,
)
from vision_mlops.jobs.definitions.models.steps import CommandStep, ParallelStep, PipelineComponent, PipelineJob
from vision_mlops.jobs.definitions.step_graph import ARTIFACTS, Ports, ordered
from vision_mlops.jobs.definitions.yaml_source import Mapping

_STEP = re.compile(r"[a-z_][a-z0-9_]*")
_COUNT = InputDeclaration.model_validate({"type": "integer", "min": 1})


class Wiring:
    """Checks one pipeline.

    Args:
        definition: The pipeline.
        ports: Inputs and outputs of each step.
    """

    def __init__(self, definition: Definition, ports: dict[str, Ports]) -> None:
        assert isinstance(definition.model, PipelineJob | PipelineComponent)
        self._definition = definition
        self._pipeline = definition.model
        self._ports = ports
        self._report = definition.report_line
        self._used: set[str] = set()
        self._written: dict[str, str] = {}
        self._looped = filled_by_loops(definition.node["jobs"])

    def check(self) -> None:
        """Check everything."""
        pipeline, definition = self._pipeline, self._definition
        if isinstance(pipeline, PipelineJob):
            check_job_ports(definition, pipeline.inputs)
        for name, step in pipeline.jobs.items():
            if not _STEP.fullmatch(name):
                hint = "use lowercase letters, digits and underscores; begin with a letter"
                definition.report("name", f"{name!r} cannot be the name of a step", hint, "jobs", name)
            self._check_step(name, step)
        circle = ordered(pipeline.jobs)[1]
        if circle:
            message = f"the steps wait for each other: {' -> '.join([*circle, circle[0]])}"
            definition.report("cycle", message, "remove one of these bindings", "jobs", circle[0])
        for name in pipeline.inputs:
            if name not in self._used:
                hint = f"bind it with ${{{{parent.inputs.{name}}}}}, or remove it"
                definition.report("unused-input", f"the input {name!r} is never used", hint, "inputs", name)
        for name in pipeline.outputs:
            if name not in self._written:
                hint = f"bind a step's output to ${{{{parent.outputs.{name}}}}}, or remove it"
                definition.report("unused-output", f"no step writes the output {name!r}", hint, "outputs", name)

    def _check_step(self, name: str, step: Any) -> None:
        definition, node = self._definition, self._definition.node["jobs"][name]
        base, ports = ("jobs", name), self._ports[name]
        owner, given = f"step {name!r}", [*step.inputs, *getattr(step, "search_space", {})]
        if ports.inputs is not None:
            check_known(definition, step.inputs, ports.inputs, owner, *base)
            given += ports.inputs if self._looped.get(name, ()) is None else self._looped.get(name) or ()
            check_required(definition, given, ports.inputs, owner, *base)
        for key, value in step.inputs.items():
            declared = ports.inputs.get(key) if ports.inputs is not None else None
            if declared is not None and declared.type == "string":
                check_text(definition, f"{owner}: input {key!r}", node["inputs"], key)
            self._check_value(name, key, value, declared, definition.line(*base, "inputs", key))
        self._check_outputs(name, step, ports, node)
        self._check_counts(name, node)
        self._check_texts(name, step, node)
        if isinstance(step, AzureStep) and step.type in CONTROL_FLOW:
            check_blocks(definition, name)

    def _check_texts(self, name: str, step: Any, node: Mapping) -> None:
        """Check what texts of a step are bound to: its own inputs and outputs, or those of the surrounding pipeline."""
        apart = {"inputs", "outputs", "component", "trial", "search_space", "description"}
        if isinstance(step, AzureStep) and step.type in CONTROL_FLOW:
            apart.update(BLOCKS)
        has_command = isinstance(step, CommandStep | ParallelStep)
        scope = TextScope(step.inputs, step.outputs)
        for key in (key for key in node if key not in apart):
            # The pipeline decides where a step runs, even if its command is written here.
            own = has_command and key not in ("compute", "distribution", "resources")
            for reference, line in references_below(self._definition, node, [key]):
                # Steps of Azure have both: the data of AutoML is the pipeline's, arguments of Spark are the step's.
                if own or (isinstance(step, AzureStep) and reference.parts[0] != "parent"):
                    check_reference(reference, self._definition, line, scope)
                else:
                    self._source(name, reference, line)
        if has_command:
            report_unused(self._definition, scope, "jobs", name)

    def _check_counts(self, name: str, node: Mapping) -> None:
        """Check that numbers of nodes and processes that are bound to an input of the pipeline are at least 1."""
        for part, key in (("distribution", "process_count_per_instance"), ("resources", "instance_count")):
            section = node.get(part)
            reference = sole(section.get(key)) if isinstance(section, Mapping) else None
            if reference is None or not isinstance(section, Mapping):
                continue
            source = self._source(name, reference, section.lines[key])
            if source is not None and source.default is None and source.type != "integer":
                message = f"step {name!r}: {key} is a whole number, but {reference} is of type {source.type}"
                self._report(section.lines[key], "binding-type", message, "bind it to an integer")
            elif source is not None and source.default is not None:
                line = self._definition.line("inputs", reference.parts[-1])
                self._check_literal(f"step {name!r}: {key}", source.default, _COUNT, line)

    def _check_value(self, step: str, key: str, given: JobInput, declared: InputDeclaration | None, line: int) -> None:
        """Check what an input is given: bindings, a value, or data."""
        where = f"step {step!r}: input {key!r}"
        if given.content is None:
            self._report(line, "missing-input", f"{where} has neither path nor value", "add `path: ...`, or a value")
            return
        text = given.content if isinstance(given.content, str) else ""
        bindings = safe_references(text, self._definition, line)
        for reference in bindings:
            source = self._source(step, reference, line)
            if source is not None and declared is not None:
                self._check_binding(where, reference, source, declared, line, alone=sole(text) is not None)
        if bindings or declared is None or "${{" in text:
            return
        if declared.type in VALUE_TYPES and given.path is None:
            self._check_literal(where, given.content, declared, line)
        elif declared.type in VALUE_TYPES:
            message = f"{where} is of type {declared.type}, but is given data"
            self._report(line, "input-type", message, f"write the value itself: `{key}: ...`")
        elif not isinstance(given.content, str):
            message = f"{where} is of type {declared.type}, but is given {given.content!r}"
            hint = f"write `{key}: {{type: {declared.type}, path: ...}}`, or a binding"
            self._report(line, "input-type", message, hint)
        elif given.path is not None and differ(given.type or "uri_folder", declared.type):
            message = f"{where} is of type {declared.type}, but is given {given.type or 'uri_folder'}"
            self._report(line, "data-type", message, f"write `type: {declared.type}`")

    def _check_binding(
        self,
        where: str,
        reference: BindingReference,
        source: InputDeclaration,
        declared: InputDeclaration,
        line: int,
        *,
        alone: bool,
    ) -> None:
        """Check that what an input is bound to fits it; ``alone`` says that no text surrounds the binding."""
        type_ = source.type if alone else "string"
        message = f"{where} is of type {declared.type}, but {reference} is of type {type_}"
        if not fits(type_, declared.type):
            self._report(line, "binding-type", message, f"bind it to a {declared.type}")
        elif differ(type_, declared.type):
            self._report(line, "data-type", message, f"bind it to a {declared.type}")
        elif source.optional and source.default is None and declared.required:
            message = f"{where} is required, but {reference} is optional"
            self._report(
                line, "optional-input", message, "make this one optional, too, or give the other one a default"
            )
        elif source.default is not None and declared.type in VALUE_TYPES and alone:
            self._check_literal(where, source.default, declared, self._definition.line("inputs", reference.parts[-1]))

    def _check_literal(self, where: str, value: object, declared: InputDeclaration, line: int) -> None:
        if found := literal_problem(value, declared):
            self._report(line, found[0], f"{where}: {found[1]}", found[2])

    def _source(self, step: str, reference: BindingReference, line: int) -> InputDeclaration | None:
        """Return what a binding of a step points to; None, with an error, if that does not exist."""
        parts = reference.parts
        if parts[:2] == ("parent", "inputs") and len(parts) == 3:
            self._used.add(parts[2])
            given = self._pipeline.inputs.get(parts[2])
            if given is None:
                message = f"{reference}: the pipeline has no input {parts[2]!r}"
                self._report(line, "unknown-input", message, nearest(parts[2], self._pipeline.inputs))
                return None
            return given if isinstance(given, InputDeclaration) else declared_by(given)
        if parts[:2] == ("parent", "jobs") and len(parts) == 5 and parts[3] in ("outputs", "inputs"):
            return self._of_step(step, reference, line)
        if parts[0] in ("inputs", "outputs", "jobs") and len(parts) > 1:
            hint = f"write ${{{{parent.{'.'.join(parts)}}}}}"
        else:
            hint = "use ${{parent.inputs.NAME}} or ${{parent.jobs.STEP.outputs.NAME}}"
        self._report(line, "binding", f"step {step!r}: {reference} is not valid here", hint)
        return None

    def _of_step(self, step: str, reference: BindingReference, line: int) -> InputDeclaration | None:
        _, _, job, direction, name = reference.parts
        if job not in self._ports:
            message = f"{reference}: the pipeline has no step {job!r}"
            others = [other for other in self._ports if other != step]
            self._report(line, "unknown-job", message, nearest(job, others))
            return None
        ports = self._ports[job]
        if direction == "inputs":
            if ports.inputs is not None and name not in ports.inputs:
                message = f"{reference}: step {job!r} has no input {name!r}"
                self._report(line, "unknown-input", message, nearest(name, ports.inputs))
            return ports.inputs.get(name) if ports.inputs is not None else None
        if ports.outputs is None:
            return None
        if name == ARTIFACTS and name not in ports.outputs:
            message = f"{reference}: step {job!r} does not declare this output; on this machine it works anyway"
            hint = "let the component write to an output of its own to be sure that it works on Azure ML"
            if isinstance(self._pipeline.jobs[job], CommandStep | ParallelStep):
                hint = f"add `outputs: {{artifacts: }}` to step {job!r}, or Azure ML's SDK refuses the binding"
            self._report(line, "artifacts", message, hint)
            return InputDeclaration.model_validate({"type": "uri_folder"})
        if name not in ports.outputs:
            message = f"{reference}: step {job!r} has no output {name!r}"
            self._report(line, "unknown-output", message, nearest(name, ports.outputs))
            return None
        return InputDeclaration.model_validate({"type": ports.outputs[name]})

    def _check_outputs(self, name: str, step: Any, ports: Ports, node: Mapping) -> None:
        types = ports.outputs
        for key, value in step.outputs.items():
            line = self._definition.line("jobs", name, "outputs", key)
            if types is not None and key not in types:
                message = f"step {name!r}: its component has no output {key!r}"
                self._report(line, "unknown-output", message, nearest(key, types))
                continue
            target = sole(value.path)
            if target is None or target.parts[0] != "parent":
                if isinstance(given := node["outputs"][key], str):
                    message = f"step {name!r}: output {key!r} is given {given!r}"
                    self._report(line, "binding", message, "write ${{parent.outputs.NAME}}, or {type: ..., path: ...}")
                continue
            if target.parts[:2] != ("parent", "outputs") or len(target.parts) != 3:
                message = f"step {name!r}: output {key!r} cannot be written to {target}"
                self._report(line, "binding", message, "write ${{parent.outputs.NAME}}")
                continue
            self._bind_output(f"{name}.{key}", target, types.get(key) if types else None, line)
        check_outputs(self._definition, node)

    def _bind_output(self, origin: str, target: BindingReference, type_: str | None, line: int) -> None:
        name = target.parts[2]
        if name not in self._pipeline.outputs:
            message = f"{target}: the pipeline has no output {name!r}"
            self._report(line, "unknown-output", message, nearest(name, self._pipeline.outputs))
            return
        if name in self._written:
            message = f"{origin} and {self._written[name]} both write the output {name!r}"
            self._report(line, "duplicate-output", message, "give each an output of its own")
        self._written[name] = origin
        declared = self._pipeline.outputs[name].type
        if type_ and declared and differ(type_, declared):
            message = f"{origin} is of type {type_}, but the output {name!r} is of type {declared}"
            self._report(line, "data-type", message, f"declare it with `type: {type_}`")
