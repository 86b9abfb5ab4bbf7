"""The agent: runs the steps of a job in order, by their conditions, and hears what they tell it."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from testing.support.azure_pipelines.agent_machine import AgentMachine, Running
from testing.support.azure_pipelines.expression import Scope
from testing.support.azure_pipelines.expression_values import Names
from testing.support.azure_pipelines.logging_commands import LoggingCommand, command_in
from testing.support.azure_pipelines.pipeline_errors import PipelineError
from testing.support.azure_pipelines.pipeline_model import Step
from testing.support.azure_pipelines.run_results import (
    CANCELED,
    FAILED,
    GOOD,
    ISSUES,
    SKIPPED,
    SUCCEEDED,
    JobResult,
    Published,
    StepResult,
)
from testing.support.azure_pipelines.runtime_variables import RuntimeVariables, Setting
from testing.support.azure_pipelines.status_functions import of_step

if TYPE_CHECKING:
    from testing.support.azure_pipelines.agent_tasks import Tasks

_FOREVER = 6 * 3600.0
_TRUE = ("true", "yes", "1")


class StepError(Exception):
    """A step has failed."""


@dataclass
class AgentJob:
    """A job, or one phase of a deployment, while it runs.

    Attributes:
        name: Of the job.
        machine: Where it runs.
        variables: Which its steps read and set.
        published: What it hands over to the run.
        canceled: Set when somebody cancels the run.
        tasks: What can be done besides scripts.
        minutes: How long it may take.
        outputs_prefix: Before the names of its outputs.
        watch: Told of each step that has ended.
    """

    name: str
    machine: AgentMachine
    variables: RuntimeVariables
    published: Published
    canceled: threading.Event
    tasks: Tasks
    minutes: float = 60
    outputs_prefix: str = ""
    watch: Callable[[StepResult], None] = lambda step: None
    added_path: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.mark = uuid.uuid4().hex
        self.folder = self.machine.root / f"{self.name}-{self.mark[:6]}"
        self.result = JobResult(self.name)
        self._end = time.monotonic() + self.minutes * 60
        for name, folder in self.folders().items():
            (self.folder / folder).mkdir(parents=True, exist_ok=True)
            self.variables.put(Setting(name, str(self.folder / folder), readonly=True))

    def folders(self) -> dict[str, str]:
        """Predefined variables that are folders, and where they are."""
        return {
            "Pipeline.Workspace": "1", "Agent.BuildDirectory": "1", "Build.SourcesDirectory": "1/s",
            "System.DefaultWorkingDirectory": "1/s",
            "Build.ArtifactStagingDirectory": "1/a", "Build.StagingDirectory": "1/a", "Build.BinariesDirectory": "1/b",
            "Common.TestResultsDirectory": "1/TestResults", "Agent.TempDirectory": "_temp", "Agent.ToolsDirectory": "_tool",
            "Agent.WorkFolder": ".", "Agent.HomeDirectory": "agent",
        }  # fmt: skip

    def run(self, steps: tuple[Step, ...]) -> JobResult:
        """Run the steps; returns what became of the job."""
        try:
            for step in steps:
                self._stand(step)
                self.watch(self.result.steps[-1])
        finally:
            self.machine.end_orphans(self.mark)
        return self.result

    def _stand(self, step: Step) -> None:
        if self.canceled.is_set() and self.result.result != FAILED:
            self.result.result = CANCELED
        self.variables.put(Setting("Agent.JobStatus", self.result.result, readonly=True))
        scope = Scope(
            {"variables": Names(self.variables.as_context())},
            of_step(self.result.result, self.canceled.is_set()),
            strict=(),
        )
        if not step.enabled or not scope.holds(step.condition):
            self.result.steps.append(StepResult(self.variables.text(step.title), SKIPPED))
            return
        found = self._tried(step)
        self.result.steps.append(found)
        if found.result in GOOD:
            if found.result == ISSUES and self.result.result == SUCCEEDED:
                self.result.result = ISSUES
        elif found.result == CANCELED:
            self.result.result = CANCELED
        elif self.variables.text(step.continue_on_error).lower() in _TRUE:
            found.result = ISSUES
            self.result.result = ISSUES if self.result.result == SUCCEEDED else self.result.result
        elif self.result.result != CANCELED:
            self.result.result = FAILED

    def _tried(self, step: Step) -> StepResult:
        for _ in range(step.retries + 1):
            found = StepRun(self, step).result()
            if found.result != FAILED:
                break
        return found

    def left(self, step: Step) -> float:
        """Seconds that a step may take."""
        of_job = self._end - time.monotonic()
        return min(of_job, step.minutes * 60 or _FOREVER)


class StepRun:
    """One step that runs."""

    def __init__(self, job: AgentJob, step: Step) -> None:
        self.job = job
        self.step = step
        self._lines: list[str] = []
        self._errors: list[str] = []
        self._completed = ""
        # A run that is cancelled ends the step that runs; those that come after it, by their conditions, are left alone.
        self._canceled = threading.Event() if job.canceled.is_set() else job.canceled

    def result(self) -> StepResult:
        job, started = self.job, time.monotonic()
        title = job.variables.text(self.step.title)
        try:
            self._do()
            result = SUCCEEDED
        except TimeoutError:
            self._errors.append("the step has taken too long")
            result = FAILED
        except (StepError, PipelineError) as error:
            self._errors.append(str(error))
            result = FAILED
        if self._canceled is job.canceled and job.canceled.is_set() and result == FAILED:
            result = CANCELED
        result = self._completed if result == SUCCEEDED and self._completed else result
        log = job.variables.masked("".join(self._lines))
        errors = [job.variables.masked(error) for error in self._errors]
        return StepResult(title, result, time.monotonic() - started, log, errors)

    def _do(self) -> None:
        inputs = {name: self.job.variables.text(value) for name, value in self.step.inputs.items()}
        if self.step.task in ("script", "bash"):
            self.script(inputs["script"], inputs)
        else:
            self.job.tasks.do(self.step.task, inputs, self)

    def script(self, script: str, inputs: Mapping[str, str], more: Mapping[str, str] | None = None) -> None:
        """Run a script.

        Raises:
            StepError: it ended badly.
        """
        variables = self.job.variables
        here = Path(variables.get("System.DefaultWorkingDirectory") or "")
        directory = here / inputs.get("workingDirectory", "")
        if not directory.is_dir():
            raise StepError(f"the working directory {directory} does not exist")
        environment = {**self.job.machine.environment, **variables.environment(), **(more or {})}
        environment["PATH"] = ":".join([*reversed(self.job.added_path), environment["PATH"]])
        environment |= {name: variables.text(value) for name, value in self.step.env.items()}
        running = Running(
            self.job.mark, Path(variables.get("Agent.TempDirectory") or ""), directory, environment,
            self.job.left(self.step), self._canceled, self._line,
        )  # fmt: skip
        status = self.job.machine.run(script, running)
        if status:
            raise StepError(f"the script has ended with exit code {status}")

    def say(self, line: str) -> None:
        """Write a line to the log of the step."""
        self._lines.append(f"{line}\n")

    def _line(self, text: str) -> None:
        command = command_in(text)
        if command is None:
            self._lines.append(text)
            return
        try:
            self._obey(command)
        except PipelineError as error:
            self._errors.append(str(error))

    def _obey(self, command: LoggingCommand) -> None:
        job, properties = self.job, command.properties
        if command.area_action == "task.setvariable":
            self._set(properties, command.message)
        elif command.area_action == "task.prependpath":
            job.added_path.append(command.message)
        elif command.area_action == "build.addbuildtag":
            job.published.tags.append(command.message)
        elif command.area_action == "task.uploadsummary":
            job.published.summaries.append(Path(command.message).read_text(encoding="utf-8"))
        elif command.area_action == "task.logissue":
            job.published.issues.append(f"{properties.get('type', 'error')}: {command.message}")
        elif command.area_action == "task.complete":
            self._completed = properties.get("result", SUCCEEDED)
        elif command.area_action == "task.setsecret":
            job.variables.put(Setting(f"secret {len(self._lines)}", command.message, secret=True))
        else:
            raise PipelineError(f"the agent does not know ##vso[{command.area_action}]")

    def _set(self, properties: Mapping[str, str], value: str) -> None:
        job, name = self.job, properties.get("variable", "")
        if not name:
            raise PipelineError("##vso[task.setvariable] names no variable")
        secret = properties.get("issecret", "false").lower() in _TRUE
        readonly = properties.get("isreadonly", "false").lower() in _TRUE
        if properties.get("isoutput", "false").lower() not in _TRUE:
            job.variables.set_by_step(Setting(name, value, secret, readonly))
            return
        if not self.step.name:
            raise PipelineError(f"the step sets the output {name} and has no name")
        job.variables.set_by_step(Setting(f"{self.step.name}.{name}", value, secret, readonly))
        job.result.outputs[f"{job.outputs_prefix}{self.step.name}.{name}"] = value
