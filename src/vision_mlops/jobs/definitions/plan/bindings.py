"""Resolves what the inputs of steps are bound to: values, data, or outputs of other steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vision_mlops.core.errors import PipelineError, Severity
from vision_mlops.jobs.definitions.definition import COMPONENTS, Definition
from vision_mlops.jobs.definitions.expressions import BindingReference, ExpressionError, references, render, sole
from vision_mlops.jobs.definitions.findings import RULES
from vision_mlops.jobs.definitions.models.ports import (
    VALUE_TYPES,
    InputDeclaration,
    JobInput,
    default_text,
    literal_problem,
    literal_text,
)
from vision_mlops.jobs.definitions.plan.nodes import DataInput, SearchedValue, Source, StepOutput, Value

Origins = dict[str, tuple[str, str]]  # output of a pipeline: the step and output that write it


@dataclass(frozen=True)
class BindingScope:
    """What a step of a pipeline may refer to.

    Attributes:
        file: The definition.
        given: Inputs of the pipeline.
        sources: Inputs of the earlier steps.
        written: Outputs of the earlier steps.
        types: Declared inputs of the step.
    """

    file: Path
    given: Mapping[str, Source]
    sources: Mapping[str, Mapping[str, Source]]
    written: Mapping[str, Origins]
    types: Mapping[str, InputDeclaration]

    def inputs(self, step: Any) -> dict[str, Source]:
        """Return the sources of a step's inputs, without those bound to an optional input that is not given."""
        found = {key: self._source(key, value) for key, value in step.inputs.items()}
        return {key: source for key, source in found.items() if source is not None}

    def text(self, value: str) -> str:
        """Insert the values of the pipeline's inputs into a text, such as that of an environment variable."""
        if "${{" not in value or "parent." not in value:
            return value
        try:
            return render(value, self._values(value))
        except ExpressionError as error:
            raise PipelineError(f"{self.file}: {value!r}: {error}", "give the input a value") from error

    def _values(self, text: str) -> dict[tuple[str, ...], str | None]:
        values: dict[tuple[str, ...], str | None] = {}
        for reference in references(text):
            source = self._refer(reference)
            values[reference.parts] = source.text if isinstance(source, Value) else None
        return values

    def _source(self, key: str, given: JobInput) -> Source | None:
        text = given.content
        if (reference := sole(text)) is not None:
            source = self._refer(reference)
            return replace(source, mode=given.mode) if isinstance(source, StepOutput) and given.mode else source
        if isinstance(text, str) and "${{" in text:
            try:
                text = render(text, self._values(text))
            except ExpressionError as error:
                message = f"{self.file}: input {key!r}: {error}; only values can be part of a text"
                raise PipelineError(message, "bind the input to ${{parent...}} and nothing else") from error
        return source_of(given, self.types.get(key), self.file, text)

    def _refer(self, reference: BindingReference) -> Source | None:
        parts = reference.parts
        if parts[:2] == ("parent", "inputs"):
            return self.given.get(parts[2])
        _, _, job, direction, name = parts
        if direction == "inputs":
            return self.sources[job].get(name)
        step, output = self.written[job].get(name, (job, name))
        return StepOutput(step, output)


def settled(
    step: str, definition: Definition, scope: BindingScope | None, inputs: Mapping[str, Source], text: str
) -> str:
    """Insert the values of the pipeline's and of the step's own inputs into a text, such as a limit or a number."""
    text = scope.text(text) if scope else text
    own: dict[tuple[str, ...], str | None] = {
        ("inputs", key): source.text for key, source in inputs.items() if isinstance(source, Value)
    }
    try:
        return render(text, own)
    except ExpressionError as error:
        if definition.kind in COMPONENTS:  # without a job, which would give it values
            return ""
        raise PipelineError(f"step {step!r}: {text!r}: {error}", "write a number, or bind it to an input") from error


def as_declared(step: str, key: str, source: Source, declared: InputDeclaration | None) -> Source:
    """Convert a value to what its input declares: 3.0 for an integer is 3.

    Raises:
        PipelineError: it does not fit, which only shows here if it comes through the inputs of pipelines.
    """
    if declared is None or not isinstance(source, Value) or declared.type not in VALUE_TYPES:
        return source
    text = literal_text(source.text, declared)
    if (found := literal_problem(text, declared)) and RULES[found[0]] is Severity.ERROR:
        raise PipelineError(f"step {step!r}: input {key!r}: {found[1]}", found[2])
    return Value(text)


def source_of(given: JobInput, declared: InputDeclaration | None, file: Path, text: Any = None) -> Source:
    """Return the literal or data that an input is given; data has a path, or is declared as such.

    A command gets a literal as Azure ML's SDK sends it, which is as Python writes it: True, 1.0, 1e-05.

    Args:
        given: What the definition says.
        declared: The declaration of the input, if it is known.
        file: The definition.
        text: The path or value, if it was changed.
    """
    text = given.content if text is None else text
    if given.path is None and (declared is None or declared.type in VALUE_TYPES):
        return Value(str(text))
    type_ = given.type or (declared.type if declared else None) or "uri_folder"
    mode = given.mode or (declared.mode if declared else None)
    return DataInput(str(text), type_, mode, file.parent)


def shown(source: Source) -> str:
    """Write a source as a person would."""
    if isinstance(source, Value):
        return source.text
    if isinstance(source, DataInput):
        return source.path
    if isinstance(source, SearchedValue):
        return f"${{{{search_space.{source.name}}}}}"
    return f"${{{{parent.jobs.{source.step}.outputs.{source.output}}}}}"


def defaults_of(component: Definition) -> dict[str, Source]:
    """Return the sources of the inputs of a component that have a default."""
    found: dict[str, Source] = {}
    for key, item in getattr(component.model, "inputs", {}).items():
        if isinstance(item, InputDeclaration) and (item.default is not None or item.path is not None):
            text = default_text(item.default, item.type) if item.default is not None else item.path
            found[key] = source_of(JobInput(value=text), item, component.file)
    return found
