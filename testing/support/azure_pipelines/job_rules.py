"""The rules for any job: what starts it, what it must have before it calls a command, and who gets a token."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath

from testing.support.azure_pipelines.called_commands import Called, called, stages_before
from testing.support.azure_pipelines.expression import Scope
from testing.support.azure_pipelines.expression_values import Names
from testing.support.azure_pipelines.pipeline_model import Pipeline
from testing.support.azure_pipelines.project_pipelines import ENVIRONMENTS
from testing.support.azure_pipelines.run_results import CANCELED, FAILED
from testing.support.azure_pipelines.status_functions import of_graph

from vision_mlops.azure.pipeline_sign_in import ACCESS_TOKEN, CHOICE

_MAIN = ["main"]
_STRICT = {
    "PublishTestResults@2": ("failTaskOnFailedTests", "failTaskOnMissingResultsFile"),
    "PublishCodeCoverageResults@2": ("failIfCoverageEmpty",),
}
"""Inputs by which a task fails where there is nothing to publish, or nothing good."""


def problems(pipeline: Pipeline) -> list[str]:
    """A line for each rule that a pipeline breaks."""
    steps = called(pipeline)
    found = [
        *_triggers(pipeline, steps),
        *_stages(pipeline),
        *_failures(pipeline, steps),
        *_sources(steps),
        *_tokens(steps),
        *_strict(steps),
    ]
    return list(dict.fromkeys(found))


def _triggers(pipeline: Pipeline, steps: list[Called]) -> Iterator[str]:
    """Only main starts what it says; a pull request starts nothing that signs in."""
    found = pipeline.triggers
    for key in ("trigger", "pr"):
        if key not in found:
            yield f"{pipeline.path}: say {key}: without it every branch starts the pipeline"
    for key, value in found.items():
        for one in value if isinstance(value, list) else [value]:
            if one != "none" and (one.get("branches") or {}).get("include") != _MAIN:
                yield f"{pipeline.path}: {key}: the branches are not main alone"
            if key == "schedules" and one.get("always") != "true":
                yield f"{pipeline.path}: {key}: without always it does not run where no file has changed"
    if found.get("pr", "none") != "none":
        for step in steps:
            if step.inputs.get("azureSubscription") or "System.AccessToken" in " ".join(step.step.env.values()):
                yield f"{step.where}: a pull request must not sign in"


def _stages(pipeline: Pipeline) -> Iterator[str]:
    """A stage waits for all that are written before it, and dev comes before prod."""
    order = [PurePosixPath(variable.file).stem for stage in pipeline.stages for variable in stage.variables.variables]
    if [name for name in order if name in ENVIRONMENTS] != sorted(name for name in order if name in ENVIRONMENTS):
        yield f"{pipeline.path}: the stages of {ENVIRONMENTS[-1]} come before those of {ENVIRONMENTS[0]}"
    for number, stage in enumerate(pipeline.stages):
        missing = {other.name for other in pipeline.stages[:number]} - stages_before(pipeline, stage.name)
        if missing:
            yield f"{pipeline.path}: {stage.name} does not wait for {', '.join(sorted(missing))}"


def _failures(pipeline: Pipeline, steps: list[Called]) -> Iterator[str]:
    """No failure is passed over: by a stage, a job or a step; and no step is switched off."""
    conditions = [(stage.name, stage.condition) for stage in pipeline.stages]
    conditions += [(f"{stage.name}.{job.name}", job.condition) for stage, job in pipeline.jobs()]
    nothing = {name: Names() for name in ("variables", "dependencies", "stageDependencies", "pipeline")}
    for name, condition in conditions:
        for result in (FAILED, CANCELED):
            if Scope(nothing, of_graph({"before": result}, result == CANCELED), strict=()).holds(condition):
                yield f"{pipeline.path}: {name}: it runs though what is before it is {result.lower()}"
    for stage, job in pipeline.jobs():
        if job.continue_on_error.lower() != "false":
            yield f"{pipeline.path}: {stage.name}.{job.name}: continueOnError passes over a failure"
    for one in steps:
        if one.step.continue_on_error.lower() != "false":
            yield f"{one.where}: continueOnError passes over a failure"
        if not one.step.enabled:
            yield f"{one.where}: the step is switched off"


def _sources(steps: list[Called]) -> Iterator[str]:
    """A job has its files before it calls make, and `mlops` on its path before it calls that; no file keeps a token."""
    for one in steps:
        before = [name for other in steps if other.job is one.job and other.comes_before(one) for name in other.names]
        if one.step.task == "checkout":
            keeps = one.inputs.get("persistCredentials", "").lower()
            if one.inputs["repository"] != "none" and keeps != "false":
                yield f"{one.where}: persistCredentials is not false, which leaves the token of the run in the files"
            continue
        kinds = {name.split()[0] for name in one.names}
        if kinds & {"make", "mlops"} and not _checked_out(one, steps):
            yield f"{one.where}: the job has no files yet: no checkout before"
        if "mlops" in kinds and not {"make setup", "make agent-path"} <= set(before):
            yield f"{one.where}: mlops is not installed and on the path: no `make setup agent-path` before"


def _checked_out(one: Called, steps: list[Called]) -> bool:
    return any(
        other.step.task == "checkout" and other.inputs["repository"] == "self"
        for other in steps
        if other.job is one.job and other.comes_before(one)
    )


def _tokens(steps: list[Called]) -> Iterator[str]:
    """Steps that sign in get the token of the run, and those with a connection use it."""
    for one in steps:
        connected = one.step.task.startswith("AzureCLI@")
        if connected or "mlops devops start" in one.names:
            if one.step.env.get(ACCESS_TOKEN) != "$(System.AccessToken)":
                yield f"{one.where}: it signs in, and {ACCESS_TOKEN} is not the token of the run"
            if connected and one.step.env.get(CHOICE) != "AzurePipelinesCredential":
                yield f"{one.where}: {CHOICE} does not choose the service connection"


def _strict(steps: list[Called]) -> Iterator[str]:
    for one in steps:
        for name in _STRICT.get(one.step.task, ()):
            if one.inputs.get(name, "false").lower() != "true":
                yield f"{one.where}: {name} is not true, so a bad result passes"
