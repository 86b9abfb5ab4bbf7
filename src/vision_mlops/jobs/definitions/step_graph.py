"""The steps of a pipeline as a graph: their inputs and outputs, whose outputs they read, and an order to run them in."""

from __future__ import annotations

from collections.abc import Mapping as AbstractMapping
from dataclasses import dataclass
from typing import Any

from vision_mlops.jobs.definitions.definition import Definition
from vision_mlops.jobs.definitions.expressions import ExpressionError, references
from vision_mlops.jobs.definitions.models.azure_only import CONTROL_FLOW, AzureComponent, AzureStep, PromptFlow
from vision_mlops.jobs.definitions.models.ports import InputDeclaration
from vision_mlops.jobs.definitions.models.steps import (
    CommandComponent,
    ComponentStep,
    ParallelComponent,
    PipelineComponent,
    PipelineJob,
    Step,
    SweepStep,
)

ARTIFACTS = "artifacts"  # an undeclared output of every step: what it left in ./outputs and ./logs


@dataclass(frozen=True)
class Ports:
    """Inputs and outputs of a step; None if they are unknown, as for a registered component."""

    inputs: AbstractMapping[str, InputDeclaration] | None
    outputs: AbstractMapping[str, str] | None


def ports_of(step: Step | PipelineJob, component: Definition | None) -> Ports:
    """Return the inputs and outputs of a step; ``component`` is that of the step, or the trial of a sweep step."""
    model = component.model if component else None
    if isinstance(model, CommandComponent | ParallelComponent | PipelineComponent | AzureComponent):
        return Ports(model.inputs, {name: item.type for name, item in model.outputs.items()})
    if (
        isinstance(step, ComponentStep)
        or isinstance(model, PromptFlow)
        or (isinstance(step, AzureStep) and (step.component or step.type in CONTROL_FLOW))
    ):
        return Ports(None, None)
    if isinstance(step, SweepStep) and model is None:
        return Ports(None, None)
    return Ports(None, {name: item.type or "uri_folder" for name, item in step.outputs.items()})


def needs(step: Any) -> list[str]:
    """Return the names of the steps whose outputs a step reads, in order of appearance."""
    found: dict[str, None] = {}
    extra = step.model_extra or {} if isinstance(step, AzureStep) else {}  # AutoML names its data in keys of its own
    for text in (*(item.content for item in step.inputs.values()), *extra.values()):
        try:
            for reference in references(text) if isinstance(text, str) else ():
                if reference.parts[:2] == ("parent", "jobs") and len(reference.parts) > 2:
                    found.setdefault(reference.parts[2])
        except ExpressionError:  # a finding of its own
            continue
    return list(found)


def ordered(jobs: AbstractMapping[str, Any]) -> tuple[list[str], list[str]]:
    """Return the steps, each after those it needs, and the steps of one cycle (empty if there is none)."""
    done: dict[str, None] = {}
    waiting = {name: [other for other in needs(step) if other in jobs] for name, step in jobs.items()}
    while waiting:
        ready = next((name for name, others in waiting.items() if all(other in done for other in others)), None)
        if ready is None:
            return list(done), _circle(waiting)
        done.setdefault(ready)
        del waiting[ready]
    return list(done), []


def _circle(waiting: dict[str, list[str]]) -> list[str]:
    path = [next(iter(waiting))]
    while True:
        following = next(other for other in waiting[path[-1]] if other in waiting)
        if following in path:
            return path[path.index(following) :]
        path.append(following)
