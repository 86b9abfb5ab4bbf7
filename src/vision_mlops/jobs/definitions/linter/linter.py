"""Checks Azure ML v2 YAML without running it: forms, names, types, bindings and the files that it points to.

Finds what the SDK's own validation lets through: a step that does not exist, an unknown input, a value out of range.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from vision_mlops.core.errors import PipelineError
from vision_mlops.core.text import nearest
from vision_mlops.jobs.definitions.definition import AZURE_JOBS, COMPONENTS, FILES, JOBS, Definition
from vision_mlops.jobs.definitions.findings import Finding, Findings
from vision_mlops.jobs.definitions.linter.command_checks import (
    check_component,
    check_declarations,
    check_job,
    check_job_inputs,
    check_outputs,
)
from vision_mlops.jobs.definitions.linter.input_checks import check_known, check_required, check_written
from vision_mlops.jobs.definitions.linter.sweep_checks import check_sweep
from vision_mlops.jobs.definitions.linter.wiring import Wiring
from vision_mlops.jobs.definitions.models.azure_only import AzureDeployment, AzureEndpoint, AzureStep, words_of
from vision_mlops.jobs.definitions.models.base_model import AssetDefinition, Environment
from vision_mlops.jobs.definitions.models.schedule import Cron, Schedule, ScheduledJob
from vision_mlops.jobs.definitions.models.steps import (
    CommandComponent,
    CommandJob,
    CommandStep,
    ComponentStep,
    ParallelComponent,
    ParallelStep,
    PipelineComponent,
    PipelineJob,
    Step,
    SweepJob,
    SweepStep,
    TrialDefinition,
)
from vision_mlops.jobs.definitions.overrides import Change
from vision_mlops.jobs.definitions.referenced_files import Files, project_root
from vision_mlops.jobs.definitions.step_graph import Ports, ports_of
from vision_mlops.jobs.definitions.tags import READS, sections_read
from vision_mlops.jobs.definitions.yaml_source import Mapping, texts

_NAME = re.compile(r"[a-z][a-z0-9_]*")
_REFERENCE = re.compile(r"azureml:([\w.-]+)(?:(:[\w.-]+)|(@latest))?", re.IGNORECASE)


SdkCheck = Callable[[Definition], list[tuple[str, tuple[str | int, ...]]]]


def only_azure(definition: Definition) -> bool:
    """Whether something in a file runs on Azure alone."""
    model = definition.model
    steps = getattr(model, "jobs", None) or {}
    jobless = isinstance(model, Schedule) and model.create_job is None
    own = jobless or isinstance(model, AzureEndpoint | AzureDeployment) or bool(words_of(model))
    return own or any(isinstance(step, AzureStep) for step in steps.values())


def lint(paths: Iterable[Path], sections: Iterable[str] = (), sdk: SdkCheck | None = None) -> Findings:
    """Check files, and the components that they point to.

    Args:
        paths: Definitions of any kind: components, jobs, schedules, environments.
        sections: What a tag ``mlops.reads.INPUT`` may name; anything where it is empty.
        sdk: As for :class:`Linter`.

    Returns:
        All findings, by file and line.
    """
    findings = Findings()
    for path in paths:
        Linter(path, findings, sections=sections, sdk=sdk).file()
    return findings


class Linter:
    """Checks one file with everything below it.

    Args:
        path: The file.
        findings: Where mistakes go.
        changes: Laid over the file before it is checked.
        registered: Gives the file of a registered component, None where there is none; without it they stay unknown.
        sections: What a tag ``mlops.reads.INPUT`` may name; anything where it is empty.
        sdk: What Azure ML's SDK says against a definition, with the keys that it means; None where it says nothing. It is
            asked about what only Azure runs.
    """

    def __init__(
        self,
        path: Path,
        findings: Findings,
        *,
        changes: Iterable[Change] = (),
        registered: Callable[[str], Path | None] | None = None,
        sections: Iterable[str] = (),
        sdk: SdkCheck | None = None,
    ) -> None:
        self._path = path
        self._sdk = sdk
        self._findings = findings
        self._changes = tuple(changes)
        self._sections = tuple(sections)
        self.files = Files(project_root(path), findings, registered)
        self._done: set[int] = set()
        self._open: list[Path] = []
        self._unplaced: list[str] = []

    def file(self, among: tuple[str, ...] = FILES) -> Definition | None:
        """Check the file; returns what it defines where that can be read."""
        before = len(self._findings.errors)  # of other files
        definition = self.files.read(self._path, among, self._changes)
        if definition is not None:
            self._own_name(definition)
            self._definition(definition)
            if self._sdk is not None and only_azure(definition) and len(self._findings.errors) == before:
                self._ask(self._sdk, definition)
        return definition

    def _ask(self, sdk: SdkCheck, definition: Definition) -> None:
        """Check the keys of what only Azure runs: the SDK has schemas of these, and there are none of ours."""
        for message, keys in sdk(definition):
            hint = "see the Azure ML YAML reference"
            self._findings.report(definition.file, definition.line(*keys), "sdk", f"Azure ML's SDK: {message}", hint)

    def checked(self, among: tuple[str, ...]) -> Definition:
        """What the file defines.

        Raises:
            PipelineError: there are errors, or changes that do nothing; the first one is worded, the others are counted.
        """
        definition = self.file(among)
        if errors := self._findings.errors or list(self._changes_in_vain()):
            first, more = errors[0], len(errors) - 1
            rest = f" (and {more} more: `mlops job lint {self._path}`)" if more else ""
            raise PipelineError(f"{first.file}:{first.line}: {first.message}", first.suggestion + rest)
        assert definition is not None
        return definition

    def _changes_in_vain(self) -> Iterator[Finding]:
        """What a definition may have too much, but nobody would type for nothing: a key or input that has no effect."""
        typed = {repr(part) for change in self._changes for part in change.path}
        for finding in self._findings:
            if finding.rule in ("ignored-key", "surplus-input") and any(word in finding.message for word in typed):
                yield finding

    def _own_name(self, definition: Definition) -> None:
        """A component needs a name to be registered; one that only a pipeline uses does without."""
        name = getattr(definition.model, "name", None)
        if definition.kind not in COMPONENTS or (name and _NAME.fullmatch(name)):
            return
        message = f"a component cannot be registered as {name!r}" if name else "the component has no name"
        hint = "add `name: ...` of small letters, digits and underscores; a pipeline takes the file as it is"
        self._findings.report(definition.file, definition.line("name"), "component-name", message, hint)

    def _definition(self, definition: Definition) -> None:
        if id(definition) in self._done:
            return
        self._done.add(id(definition))
        model = definition.model
        self._names(definition)
        self._tags(definition)
        self._references(definition)
        check_written(definition, self._findings)
        self.files.check_data(definition, getattr(model, "inputs", {}))
        if isinstance(model, CommandComponent | ParallelComponent):
            check_component(definition, self._findings)
            self._run_files(definition, model, definition.node)
        elif isinstance(model, CommandJob):
            check_job(definition, self._findings)
            self._run_files(definition, model, definition.node)
        elif isinstance(model, TrialDefinition):
            self._run_files(definition, model, definition.node)
        elif isinstance(model, SweepJob):
            self._sweep_job(definition, model)
        elif isinstance(model, PipelineJob | PipelineComponent):
            self._pipeline(definition, model)
        elif isinstance(model, Schedule):
            self._schedule(definition, model)
        elif isinstance(model, Environment):
            self.files.check_environment(definition, model, definition.node)
        elif isinstance(model, AssetDefinition):
            self.files.local(model.path, definition, definition.line("path"), "path")

    def _names(self, definition: Definition) -> None:
        """Names of inputs and outputs become identifiers on Azure ML; only for inputs of a command job its SDK takes any."""
        for root in ("inputs", "outputs"):
            for name in getattr(definition.model, root, {}):
                if not name.isidentifier() or not name.isascii():
                    tolerated = root == "inputs" and definition.kind in ("commandJob", "sweepJob")
                    rule, message = "name", f"{name!r} cannot be the name of an {root[:-1]}"
                    if tolerated:
                        rule, message = (
                            "input-name",
                            f"{name!r} cannot be the name of an input in a component or pipeline",
                        )
                    line = definition.line(root, name)
                    hint = "use letters, digits and underscores; begin with a letter"
                    self._findings.report(definition.file, line, rule, message, hint)

    def _tags(self, definition: Definition) -> None:
        """Tags that say what a step reads: a wrong word there is no matter of Azure ML's."""
        inputs = getattr(definition.model, "inputs", {})
        for name, wanted in sections_read(getattr(definition.model, "tags", None) or {}).items():
            line = definition.line("tags", READS + name)
            if name not in inputs:
                message = f"the tag {READS + name!r} names no input of this {definition.type}"
                self._findings.report(definition.file, line, "tag", message, nearest(name, inputs))
            for word in wanted:
                if self._sections and word not in self._sections:
                    message = f"the tag {READS + name!r} names {word!r}, which is no section of a workload"
                    self._findings.report(definition.file, line, "tag", message, nearest(word, self._sections))

    def _references(self, definition: Definition) -> None:
        """Azure ML knows ``azureml:`` and ``@latest`` in small letters alone."""
        for text, line in texts(definition.node):
            found = _REFERENCE.fullmatch(text)
            small = f"azureml:{found[1]}{found[2] or ''}{(found[3] or '').lower()}" if found else text
            if small != text:
                message = f"{text!r} has capitals where Azure ML takes small letters"
                self._findings.report(definition.file, line, "reference", message, f"write {small}")

    def _run_files(self, owner: Definition, model: object, node: Mapping, *base: str) -> None:
        """Code and environment of something that runs; those of a parallel step are in its task."""
        task = getattr(model, "task", None)
        if task is not None:
            if getattr(model, "input_data", None) is None:
                message = "nothing says which input is split into mini-batches"
                hint = "add `input_data: ${{inputs.NAME}}`; without it the step does not run on this machine"
                self._findings.report(owner.file, owner.line(*base, "task"), "mini-batches", message, hint)
            model, node, base = task, node["task"], (*base, "task")
        path = self.files.check_code(owner, getattr(model, "code", None), *base, "code")
        if task is not None and path is not None and path.is_dir():
            entry = f"{task.code}/{task.entry_script}"
            self.files.local(entry, owner, owner.line(*base, "entry_script"), "code")
        environment = getattr(model, "environment", None)
        self.files.check_environment(owner, environment, node.get("environment"), *base, "environment")

    def _sweep_job(self, definition: Definition, model: SweepJob) -> None:
        check_job_inputs(definition, dict(model.inputs), self._findings)
        check_outputs(definition, definition.node, self._findings)
        trial = check_sweep(definition, model, definition.node, self.files, self._findings)
        if trial is not None:
            self._definition(trial)

    def _pipeline(self, definition: Definition, model: PipelineJob | PipelineComponent) -> None:
        file = definition.file.resolve()
        if isinstance(model, PipelineJob) and model.component is not None:
            self._pipeline_of_component(definition, model, model.component)
            return
        if isinstance(model, PipelineComponent):
            check_declarations(definition, model.inputs, self._findings)
        self._open.append(file)
        ports = {name: self._step(definition, name, step) for name, step in model.jobs.items()}
        self._open.pop()
        if isinstance(model, PipelineJob):
            self._compute(definition, model)
        Wiring(definition, ports, self._findings).check()

    def _pipeline_of_component(self, definition: Definition, model: PipelineJob, reference: str) -> None:
        """A job that has its steps from a component: it gives the inputs, and may place the outputs."""
        check_job_inputs(definition, dict(model.inputs), self._findings)
        check_outputs(definition, definition.node, self._findings)
        component = self.files.component(reference, definition, ("component",), ("pipelineComponent",))
        if component is None:
            return
        self._definition(component)
        ports = ports_of(model, component)
        check_known(definition, model.inputs, ports.inputs or {}, "the component", self._findings)
        check_required(definition, model.inputs, ports.inputs or {}, "the component", self._findings)
        for name in model.outputs:
            if name not in (ports.outputs or {}):
                message, line = f"the component has no output {name!r}", definition.line("outputs", name)
                hint = nearest(name, ports.outputs or {})
                self._findings.report(definition.file, line, "unknown-output", message, hint)

    def _compute(self, definition: Definition, model: PipelineJob) -> None:
        """Here a job needs no compute; Azure ML's SDK refuses a pipeline that has a step without one."""
        default = model.settings.default_compute if model.settings else None
        if self._unplaced and not default and not model.compute:
            message = f"step {self._unplaced[0]!r} has no compute, and the pipeline no default"
            hint = "add `settings: {default_compute: azureml:cpu-cluster}`, or give each step a compute"
            self._findings.report(definition.file, definition.line("settings"), "compute", message, hint)

    def _step(self, definition: Definition, name: str, step: Step) -> Ports:
        base, node = ("jobs", name), definition.node["jobs"][name]
        self.files.check_data(definition, step.inputs, *base)
        component: Definition | None = None
        if isinstance(step, SweepStep):
            component = check_sweep(definition, step, node, self.files, self._findings, *base)
        elif isinstance(step, ComponentStep | AzureStep) and step.component is not None:
            component = self.files.component(step.component, definition, (*base, "component"))
            if component is not None and component.type != (step.type or "command"):
                message = (
                    f"step {name!r} is of type {step.type or 'command'}, but its component of type {component.type}"
                )
                line = definition.line(*base, "type")
                self._findings.report(definition.file, line, "step-type", message, f"write `type: {component.type}`")
            prefixed = isinstance(step.component, str) and step.component.startswith("file:")
            if prefixed and component is not None and component.type == "pipeline":
                message = f"step {name!r}: Azure ML's SDK takes no file: before a pipeline component"
                hint = f"write {str(step.component).removeprefix('file:')}"
                self._findings.report(definition.file, definition.line(*base, "component"), "component", message, hint)
        if isinstance(step, CommandStep | ParallelStep | ComponentStep):
            self._run_files(definition, step, node, *base)
        if component is not None:
            inside = isinstance(component.model, PipelineComponent) and component.file.resolve() in self._open
            if inside and component.node is not node.get("component"):
                message = f"step {name!r}: the pipeline {component.file.name} contains itself"
                line = definition.line(*base, "component")
                self._findings.report(definition.file, line, "cycle", message, "name another component")
                return Ports(None, None)
            self._definition(component)
        nested = component is not None and isinstance(component.model, PipelineComponent)
        if not nested and not isinstance(step, AzureStep) and step.compute is None:
            self._unplaced.append(name)
        return ports_of(step, component)

    def _schedule(self, definition: Definition, model: Schedule) -> None:
        trigger = model.trigger
        if isinstance(trigger, Cron):
            minute, hour, day, month, weekday = trigger.expression.split()
            if (day, month) != ("*", "*"):
                message = f"Azure ML reads day of month and month as *, here they are {day} and {month}"
                hint = f"write `{minute} {hour} * * {weekday}`, or a recurrence by month"
                line = definition.line("trigger", "expression")
                self._findings.report(definition.file, line, "cron-months", message, hint)
        if model.create_job is None:  # a monitor or an import, of which the SDK has the schema
            return
        path: tuple[str, ...] = ("create_job",)
        value: str | dict[str, object] = model.create_job
        override = None
        if isinstance(value, dict) and "job" in value:
            override = self.files.component(value, definition, path, ("scheduledJob",))
            if override is None:
                return
            assert isinstance(override.model, ScheduledJob)
            value, path = override.model.job, (*path, "job")
        job = self.files.component(value, definition, path, (*JOBS, *AZURE_JOBS))
        if job is None:
            return
        self._definition(job)
        if override is None:
            return
        assert isinstance(override.model, ScheduledJob)
        known = getattr(job.model, "inputs", {})
        check_known(override, override.model.inputs, known, "the job", self._findings)
