"""What a pipeline names and nothing has: dependencies, outputs, variables, connections, environments, groups, pools."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from graphlib import CycleError, TopologicalSorter

from testing.support.azure_pipelines.expression import MACRO, with_macros
from testing.support.azure_pipelines.expression_functions import FUNCTIONS
from testing.support.azure_pipelines.expression_syntax import Call, Index, Literal, Name, Node, parse, path_of, walk
from testing.support.azure_pipelines.known_names import KnownNames
from testing.support.azure_pipelines.pipeline_errors import PipelineError
from testing.support.azure_pipelines.pipeline_model import Job, Pipeline, Stage, Step, Variables
from testing.support.azure_pipelines.predefined_variables import IMAGES, IN_THE_RUN, RESOURCE_FIELDS

_STATUS = ("always", "canceled", "failed", "succeeded", "succeededorfailed")
_OF_STAGES = ("variables", "dependencies", "pipeline")
_OF_JOBS = ("variables", "dependencies", "stagedependencies", "pipeline")
_OF_STAGE_VARIABLES = ("variables", "stagedependencies", "pipeline")
_OF_STEPS = ("variables",)
_CONNECTIONS = {
    "azuresubscription": "azure_connections",
    "connectedservicenamearm": "azure_connections",
    "containerregistry": "registry_connections",
}


def problems(pipeline: Pipeline, known: KnownNames) -> list[str]:
    """A line for each name that leads nowhere; none where all is well."""
    return list(dict.fromkeys(_Check(pipeline, known).problems()))


@dataclass(frozen=True)
class _Names:
    """Variables that can be named somewhere, in small letters, with the texts of those that the definition sets."""

    values: Mapping[str, str | None]

    @classmethod
    def of(cls, before: _Names | None, variables: Variables, known: KnownNames) -> _Names:
        values: dict[str, str | None] = dict(before.values) if before else {}
        for group in variables.groups:
            values |= {name.lower(): None for name in known.groups.get(group, ())}
        values |= {variable.name.lower(): variable.value for variable in variables.variables}
        return cls(values)

    def plus(self, *names: str) -> _Names:
        return _Names({**dict.fromkeys(name.lower() for name in names), **self.values})

    def __contains__(self, name: str) -> bool:
        return name.lower() in self.values

    def resolved(self, text: str) -> str:
        """The text with the variables that are known before the run."""
        for _ in range(10):
            after = with_macros(text, lambda name: self.values.get(name.lower()))
            if after == text:
                break
            text = after
        return text


@dataclass(frozen=True)
class _Place:
    """Where an expression stands: what it is called, which contexts it may name, in which stage and job, and functions."""

    where: str
    contexts: tuple[str, ...]
    stage: Stage | None = None
    job: Job | None = None
    functions: tuple[str, ...] = _STATUS


class _Check:
    def __init__(self, pipeline: Pipeline, known: KnownNames) -> None:
        self._pipeline = pipeline
        self._known = known

    def problems(self) -> Iterator[str]:
        resources = self._pipeline.resources
        aliases = [item.get("pipeline", "") for item in resources.get("pipelines", [])]
        fields = [f"resources.pipeline.{alias}.{field}" for alias in aliases for field in RESOURCE_FIELDS]
        predefined = _Names(dict.fromkeys(name.lower() for name in (*IN_THE_RUN, *fields)))
        names = _Names.of(predefined, self._pipeline.variables, self._known)
        where = self._pipeline.path
        yield from self._resources(names)
        yield from self._variables(self._pipeline.variables, names, _Place(where, _OF_STEPS, functions=("counter",)))
        yield from self._macros(self._pipeline.run_name, names.plus("Rev:r", "Date:yyyyMMdd"), f"{where}: name")
        yield from self._dependencies({stage.name: stage.depends_on for stage in self._pipeline.stages}, where)
        for stage in self._pipeline.stages:
            yield from self._stage(stage, names)

    def _resources(self, names: _Names) -> Iterator[str]:
        where = f"{self._pipeline.path}: resources"
        for item in self._pipeline.resources.get("pipelines", []):
            if item.get("source") not in self._known.pipelines:
                yield f"{where}: the pipeline {item.get('source')!r} is not known"
        for item in self._pipeline.resources.get("containers", []):
            yield from self._macros(item.get("image", ""), names, where)
            yield from self._connection(item.get("endpoint", ""), "registry_connections", names, where)

    def _stage(self, stage: Stage, names: _Names) -> Iterator[str]:
        where = f"{self._pipeline.path}: stage {stage.name}"
        names = _Names.of(names, stage.variables, self._known)
        yield from self._expression(stage.condition, names, _Place(f"{where}: condition", _OF_STAGES, stage))
        yield from self._variables(stage.variables, names, _Place(where, _OF_STAGE_VARIABLES, stage, functions=()))
        yield from self._dependencies({job.name: job.depends_on for job in stage.jobs}, where)
        for job in stage.jobs:
            yield from self._job(stage, job, names)

    def _job(self, stage: Stage, job: Job, names: _Names) -> Iterator[str]:
        where = f"{self._pipeline.path}: {stage.name}.{job.name}"
        names = _Names.of(names, job.variables, self._known)
        yield from self._expression(job.condition, names, _Place(f"{where}: condition", _OF_JOBS, stage, job))
        yield from self._variables(job.variables, names, _Place(where, _OF_JOBS, stage, job, functions=()))
        if job.is_deployment and names.resolved(job.environment) not in self._known.environments:
            yield f"{where}: the environment {names.resolved(job.environment)!r} is not known"
        containers = [item.get("container") for item in self._pipeline.resources.get("containers", [])]
        if job.container and job.container not in containers and ":" not in job.container:
            yield f"{where}: the container {job.container!r} is not among the resources"
        image = names.resolved(job.pool.get("vmImage", ""))
        if not job.pool:
            yield f"{where}: no pool"
        elif not job.pool.get("name") and image not in IMAGES:
            yield f"{where}: the pool has no image {image!r}"
        for phase, steps in job.phases.items():
            yield from self._steps(steps, stage, job, names, f"{where}.{phase}" if job.is_deployment else where)

    def _steps(self, steps: tuple[Step, ...], stage: Stage, job: Job, names: _Names, where: str) -> Iterator[str]:
        for number, step in enumerate(steps, 1):
            here = f"{where}: step {number} ({step.title:.60})"
            yield from self._expression(step.condition, names, _Place(f"{here}: condition", _OF_STEPS, stage, job))
            if step.continue_on_error.lower() not in ("true", "false"):
                yield f"{here}: continueOnError is {step.continue_on_error!r}"
            texts = [*step.inputs.values(), *step.env.values(), step.display_name]
            for text in texts:
                if "$[" in text:
                    yield f"{here}: $[ ] is evaluated in variables and conditions only: {text.strip()!r}"
                yield from self._macros(text, names, here)
            for name, value in step.inputs.items():
                if name.lower() in _CONNECTIONS:
                    yield from self._connection(value, _CONNECTIONS[name.lower()], names, here)
            own, outputs = self._known.set_by(step)
            if outputs and not step.name:
                yield f"{here}: sets the output {', '.join(sorted(outputs))}, and has no name"
            names = names.plus(*own, *outputs, *(f"{step.name}.{output}" for output in outputs))

    def _variables(self, found: Variables, names: _Names, place: _Place) -> Iterator[str]:
        for group in found.groups:
            if group not in self._known.groups:
                yield f"{place.where}: the variable group {group!r} is not known"
        for variable in found.variables:
            here = f"{place.where}: variable {variable.name}"
            if variable.value.startswith("$[") and variable.value.endswith("]"):
                yield from self._expression(variable.value[2:-1], names, replace(place, where=here))
            elif "$[" in variable.value:
                yield f"{here}: $[ ] must be the whole value"
            yield from self._macros(variable.value, names, here)

    def _macros(self, text: str, names: _Names, where: str) -> Iterator[str]:
        for found in MACRO.finditer(text):
            if found[1] not in names:
                yield f"{where}: the variable {found[1]} is not known"

    def _connection(self, name: str, kind: str, names: _Names, where: str) -> Iterator[str]:
        if names.resolved(name) not in getattr(self._known, kind):
            yield f"{where}: the service connection {names.resolved(name)!r} is not known"

    def _dependencies(self, graph: Mapping[str, tuple[str, ...]], where: str) -> Iterator[str]:
        for name, needed in graph.items():
            for other in needed:
                if other not in graph:
                    yield f"{where}: {name} depends on {other!r}, which does not exist"
        try:
            TopologicalSorter(
                {name: [other for other in needed if other in graph] for name, needed in graph.items()}
            ).prepare()
        except CycleError as error:
            yield f"{where}: {' -> '.join(error.args[1])} wait for each other"
        if graph and all(graph.values()):
            yield f"{where}: every one depends on another: none can start"

    def _expression(self, text: str, names: _Names, place: _Place) -> Iterator[str]:
        try:
            tree = parse(text)
        except PipelineError as error:
            yield f"{place.where}: {error}"
            return
        inner = {id(node.of) for node in walk(tree) if isinstance(node, Index)}
        for node in walk(tree):
            if isinstance(node, Call):
                yield from self._call(node, place)
            elif isinstance(node, Name) and node.name.lower() not in place.contexts:
                yield f"{place.where}: {node.name} cannot be named here, in {text.strip()!r}"
            elif isinstance(node, Index) and id(node) not in inner:
                path = path_of(node)
                if path:
                    yield from self._path(path, names, place)

    def _call(self, call: Call, place: _Place) -> Iterator[str]:
        name = call.function.lower()
        if name not in FUNCTIONS and name not in place.functions:
            yield f"{place.where}: the function {call.function} is not known here"
        elif name in _STATUS and call.arguments:
            if place.contexts == _OF_STEPS:
                yield f"{place.where}: {call.function} takes no name in the condition of a step"
                return
            before = place.job.depends_on if place.job else place.stage.depends_on if place.stage else ()
            for argument in call.arguments:
                if not isinstance(argument, Literal) or argument.value not in before:
                    yield f"{place.where}: {call.function}({_shown(argument)}) is not among what it depends on"

    def _path(self, path: list[str], names: _Names, place: _Place) -> Iterator[str]:
        context, rest, shown = path[0].lower(), path[1:], ".".join(path)
        outside = f"{place.where}: {shown} is not among what it depends on"
        if context == "variables":
            if rest[0] not in names:
                yield f"{place.where}: the variable {rest[0]} is not known"
            return
        if context not in place.contexts or place.stage is None:
            return
        stages = {one.name: one for one in self._pipeline.stages if one.name in place.stage.depends_on}
        if context == "dependencies" and place.job is not None:
            yield from self._output(self._jobs(place.stage, place.job.depends_on), rest, place.where, shown)
        elif rest[0] not in stages:
            yield outside
        elif context == "dependencies":
            outputs = {f"{other.name}.{name}" for other in stages[rest[0]].jobs for name in self._outputs(other)}
            yield from self._among(outputs, rest[1:], place.where, shown)
        elif context == "stagedependencies":
            other = stages[rest[0]]
            yield from self._output(
                self._jobs(other, tuple(one.name for one in other.jobs)), rest[1:], place.where, shown
            )

    def _jobs(self, stage: Stage, names: tuple[str, ...]) -> dict[str, Job]:
        return {job.name: job for job in stage.jobs if job.name in names}

    def _output(self, jobs: Mapping[str, Job], rest: list[str], where: str, shown: str) -> Iterator[str]:
        if not rest or rest[0] not in jobs:
            yield f"{where}: {shown} is not among what it depends on"
        else:
            yield from self._among(self._outputs(jobs[rest[0]]), rest[1:], where, shown)

    def _among(self, outputs: set[str], rest: list[str], where: str, shown: str) -> Iterator[str]:
        """Whether the end of a path is ``result`` or one of the outputs."""
        if rest != ["result"] and not (len(rest) == 2 and rest[0] == "outputs" and rest[1] in outputs):
            yield f"{where}: {shown} is not set by any step; there are {', '.join(sorted(outputs)) or 'no outputs'}"

    def _outputs(self, job: Job) -> set[str]:
        """What a job's outputs are called: those of a deployment have the job's name before them."""
        steps = job.phases["deploy"] if job.is_deployment else job.phases["steps"]
        prefix = f"{job.name}." if job.is_deployment else ""
        return {
            f"{prefix}{step.name}.{output}" for step in steps if step.name for output in self._known.set_by(step)[1]
        }


def _shown(node: Node) -> str:
    return repr(node.value) if isinstance(node, Literal) else "…"
