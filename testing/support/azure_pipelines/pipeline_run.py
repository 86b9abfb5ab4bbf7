"""A run of a pipeline: its stages and jobs in the order of what they depend on, with conditions, checks and outputs."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from graphlib import TopologicalSorter
from typing import Any

from testing.support.azure_pipelines.agent_job import AgentJob
from testing.support.azure_pipelines.agent_machine import AgentMachine
from testing.support.azure_pipelines.agent_tasks import Tasks
from testing.support.azure_pipelines.expression import Scope
from testing.support.azure_pipelines.expression_functions import Counters
from testing.support.azure_pipelines.expression_values import Names, to_text
from testing.support.azure_pipelines.pipeline_model import HOOKS, Job, Pipeline, Stage, Step, Variables
from testing.support.azure_pipelines.run_results import (
    CANCELED,
    FAILED,
    GOOD,
    ISSUES,
    SKIPPED,
    JobResult,
    Published,
    StageResult,
    StepResult,
    ancestors,
    of_parts,
)
from testing.support.azure_pipelines.runtime_variables import RuntimeVariables, Setting
from testing.support.azure_pipelines.status_functions import of_graph

Approve = Callable[["PipelineRun", Stage], bool]
_EXPRESSION = ("$[", "]")


@dataclass
class Surroundings:
    """What a run finds in its project.

    Attributes:
        groups: Values by name, by the name of the variable group.
        checks: Who approves what is brought to an environment, by its name.
        tasks: What the agent can do.
        counters: Of the pipeline.
    """

    groups: Mapping[str, Mapping[str, str]]
    checks: Mapping[str, Approve]
    tasks: Tasks
    counters: Counters = field(default_factory=Counters)


@dataclass
class PipelineRun:
    """One run.

    Attributes:
        number: ``Build.BuildId``.
        pipeline: What runs.
        predefined: Variables that the service sets.
        machine: Where jobs run.
        parameters: What was given for it.
        watch: Told of each step that has ended.
    """

    number: int
    pipeline: Pipeline
    predefined: Mapping[str, str]
    machine: AgentMachine
    surroundings: Surroundings
    parameters: Mapping[str, Any] = field(default_factory=dict)
    access_token: str = field(default_factory=lambda: uuid.uuid4().hex)
    canceled: threading.Event = field(default_factory=threading.Event)
    stages: dict[str, StageResult] = field(default_factory=dict)
    approvals: list[str] = field(default_factory=list)
    watch: Callable[[StepResult], None] = lambda step: None

    def __post_init__(self) -> None:
        # Once for the whole run: a counter counts when it is read.
        top, counter = RuntimeVariables(self.predefined), {"counter": self.surroundings.counters.function()}
        self._declare(top, self.pipeline.variables, {}, counter)
        self._top = replace(
            self.pipeline.variables,
            variables=tuple(
                replace(one, value=top.get(one.name) or "") if one.value.startswith(_EXPRESSION[0]) else one
                for one in self.pipeline.variables.variables
            ),
        )
        self.published = Published(self.machine.root / f"artifacts-{self.number}")

    @property
    def result(self) -> str:
        """Of the whole run."""
        return of_parts(stage.result for stage in self.stages.values())

    def report(self) -> str:
        """What became of it, for people: each step with its seconds, and the end of the log of those that failed."""
        lines = [f"{self.pipeline.path}: {self.result}, tags {self.published.tags}"]
        for stage in self.stages.values():
            for job in stage.jobs.values():
                lines.append(f"  {stage.name}.{job.name}: {job.result}")
                for step in job.steps:
                    lines.append(f"    {step.seconds:6.1f} s  {step.result:<10} {step.title} {' '.join(step.errors)}")
                    if step.result == FAILED:
                        lines += [f"      | {line}" for line in step.log.splitlines()[-30:]]
        return "\n".join(lines)

    def cancel(self) -> None:
        """Cancel it: the step that runs is ended, and conditions decide about what follows."""
        self.canceled.set()

    def execute(self) -> PipelineRun:
        """Run it to its end."""
        graph = {stage.name: stage.depends_on for stage in self.pipeline.stages}
        by_name = {stage.name: stage for stage in self.pipeline.stages}
        for name in TopologicalSorter(graph).static_order():
            self.stages[name] = self._stage(by_name[name], graph)
        return self

    def _stage(self, stage: Stage, graph: Mapping[str, tuple[str, ...]]) -> StageResult:
        result = StageResult(stage.name)
        before = {name: self.stages[name].result for name in ancestors(stage.name, graph)}
        dependencies = {name: _as_dependency(self.stages[name]) for name in stage.depends_on}
        variables = self._variables(stage, None)
        scope = self._scope(variables, of_graph(before, self.canceled.is_set()), dependencies=Names(dependencies))
        if not scope.holds(stage.condition):
            result.result = SKIPPED
            result.jobs = {job.name: JobResult(job.name, SKIPPED) for job in stage.jobs}
            return result
        if not self._approved(stage, variables):
            result.result = FAILED
            result.jobs = {job.name: JobResult(job.name, SKIPPED) for job in stage.jobs}
            return result
        jobs = {job.name: job.depends_on for job in stage.jobs}
        by_name = {job.name: job for job in stage.jobs}
        for name in TopologicalSorter(jobs).static_order():
            result.jobs[name] = self._job(stage, by_name[name], result, jobs)
        result.result = of_parts(job.result for job in result.jobs.values())
        return result

    def _approved(self, stage: Stage, variables: RuntimeVariables) -> bool:
        """The checks of all environments of a stage come before its first job."""
        for name in dict.fromkeys(variables.text(job.environment) for job in stage.jobs if job.is_deployment):
            if name in self.surroundings.checks:
                self.approvals.append(name)
                if not self.surroundings.checks[name](self, stage):
                    return False
        return True

    def _job(self, stage: Stage, job: Job, so_far: StageResult, graph: Mapping[str, tuple[str, ...]]) -> JobResult:
        before = {name: so_far.jobs[name].result for name in ancestors(job.name, graph)}
        contexts = self._contexts(stage, {name: so_far.jobs[name] for name in job.depends_on})
        variables = self._variables(stage, job, contexts)
        scope = self._scope(variables, of_graph(before, self.canceled.is_set()), **contexts)
        if not scope.holds(job.condition):
            return JobResult(job.name, CANCELED if self.canceled.is_set() else SKIPPED)
        result = JobResult(job.name)
        for phase in self._phases(job):
            if phase == "on.failure" and result.result != FAILED:
                continue
            if phase == "on.success" and result.result not in GOOD:
                continue
            if phase in HOOKS and result.result not in GOOD:
                continue
            done = self._phase(stage, job, phase, self._variables(stage, job, contexts))
            result.steps += done.steps
            result.outputs |= done.outputs
            result.result = of_parts([result.result, done.result])
        if result.result == FAILED and variables.text(job.continue_on_error).lower() == "true":
            result.result = ISSUES
        return result

    def _phases(self, job: Job) -> list[str]:
        order = ["steps", *HOOKS, "on.failure", "on.success"]
        return [phase for phase in order if phase in job.phases]

    def _phase(self, stage: Stage, job: Job, phase: str, variables: RuntimeVariables) -> JobResult:
        steps = job.phases[phase]
        if phase == "deploy" and not any(step.task == "DownloadPipelineArtifact@2" for step in steps):
            steps = (Step("DownloadPipelineArtifact@2", {"source": "current"}), *steps)
        agent = AgentJob(
            job.name, self.machine, variables, self.published, self.canceled, self.surroundings.tasks, job.minutes,
            f"{job.name}." if job.is_deployment else "", self.watch,
        )  # fmt: skip
        return agent.run(steps)

    def _contexts(self, stage: Stage, jobs: Mapping[str, JobResult]) -> dict[str, Any]:
        others = {
            name: Names({job.name: _described(job) for job in self.stages[name].jobs.values()})
            for name in stage.depends_on
        }
        return {
            "dependencies": Names({name: _described(job) for name, job in jobs.items()}),
            "stageDependencies": Names(others),
        }

    def _scope(self, variables: RuntimeVariables, functions: Mapping[str, Any], **contexts: Any) -> Scope:
        return Scope(
            {"variables": Names(variables.as_context()), "pipeline": Names({}), **contexts}, functions, strict=()
        )

    def _variables(self, stage: Stage, job: Job | None, contexts: Mapping[str, Any] | None = None) -> RuntimeVariables:
        found = RuntimeVariables(
            {
                **self.predefined, "Build.BuildId": str(self.number), "System.StageName": stage.name,
                "System.StageAttempt": "1", "System.JobAttempt": "1", "System.AccessToken": self.access_token,
                "TF_BUILD": "True", "Agent.OS": "Linux",
                "Agent.OSArchitecture": "X64", "Agent.JobName": job.name if job else "",
                "System.JobName": job.name if job else "",
            }
        )  # fmt: skip
        if job and job.is_deployment:
            found.put(Setting("Environment.Name", job.environment, readonly=True))
        contexts = contexts or self._contexts(stage, {})
        self._declare(found, self._top, {}, {})
        self._declare(found, stage.variables, {"stageDependencies": contexts["stageDependencies"]}, {})
        if job:
            self._declare(found, job.variables, contexts, {})
        return found

    def _declare(
        self, found: RuntimeVariables, variables: Variables, contexts: Mapping[str, Any], functions: Mapping[str, Any]
    ) -> None:
        for group in variables.groups:
            for name, value in self.surroundings.groups[group].items():
                found.put(Setting(name, value))
        for variable in variables.variables:
            value = variable.value
            if value.startswith(_EXPRESSION[0]) and value.endswith(_EXPRESSION[1]):
                value = to_text(self._scope(found, functions, **contexts).evaluate(value[2:-1]))
            found.put(Setting(variable.name, value, readonly=variable.readonly))


def _described(job: JobResult) -> Mapping[str, Any]:
    return Names({"result": job.result, "outputs": Names(job.outputs)})


def _as_dependency(stage: StageResult) -> Mapping[str, Any]:
    outputs = {f"{job.name}.{name}": value for job in stage.jobs.values() for name, value in job.outputs.items()}
    return Names({"result": stage.result, "outputs": Names(outputs)})
