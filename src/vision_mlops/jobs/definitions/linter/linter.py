"""Checks Azure ML v2 YAML without running it: structure, names, types, bindings and the files that it refers to.

It finds what the SDK's own validation misses: a step that does not exist, an unknown input, a value out of range.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from vision_mlops.core.errors import PipelineError
from vision_mlops.core.text import nearest
from vision_mlops.jobs.definitions.definition import AZURE_JOBS, COMPONENTS, FILES, JOBS, Definition
from vision_mlops.jobs.definitions.findings import Finding, Findings
from vision_mlops.jobs.definitions.linter.component_checks import (
    check_component,
    check_declarations,
    check_job,
    check_job_ports,
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
    """Return whether something in a file runs on Azure alone."""
    model = definition.model
    steps = getattr(model, "jobs", None) or {}
    jobless = isinstance(model, Schedule) and model.create_job is None
    own = jobless or isinstance(model, AzureEndpoint | AzureDeployment) or bool(words_of(model))
    return own or any(isinstance(step, AzureStep) for step in steps.values())


def lint(paths: Iterable[Path], sections: Iterable[str] = (), sdk: SdkCheck | None = None) -> Findings:
    """Check files and the components that they refer to.

    Args:
        paths: Definitions of any kind: components, jobs, schedules, environments.
        sections: What a tag ``mlops.reads.INPUT`` may name; anything if empty.
        sdk: As for :class:`Linter`.

    Returns:
        All findings, by file and line.
    """
    findings = Findings()
    for path in paths:
        Linter(path, findings, sections=tuple(sections), sdk=sdk).file()
    return findings


@dataclass
class Linter:
    """Checks one file with everything below it.

    Attributes:
        path: The file.
        findings: Collects the mistakes.
        changes: Applied to the file before it is checked.
        registered: Returns the file of a registered component, or None; without it such components stay unknown.
        sections: What a tag ``mlops.reads.INPUT`` may name; anything if empty.
        sdk: Returns what Azure ML's SDK rejects in a definition that only Azure runs, with the keys concerned; without it,
            the SDK is not asked.
    """

    path: Path
    findings: Findings
    changes: Sequence[Change] = ()
    registered: Callable[[str], Path | None] | None = None
    sections: Sequence[str] = ()
    sdk: SdkCheck | None = None

    def __post_init__(self) -> None:
        self.files = Files(project_root(self.path), self.findings, self.registered)
        self._done: set[int] = set()
        self._open: list[Path] = []
        self._unplaced: list[str] = []

    def file(self, among: tuple[str, ...] = FILES) -> Definition | None:
        """Check the file; return what it defines, if that can be read."""
        before = len(self.findings.errors)  # of other files
        definition = self.files.read(self.path, among, self.changes)
        if definition is not None:
            self._own_name(definition)
            self._definition(definition)
            if self.sdk is not None and only_azure(definition) and len(self.findings.errors) == before:
                for message, keys in self.sdk(definition):
                    definition.report("sdk", f"Azure ML's SDK: {message}", "see the Azure ML YAML reference", *keys)
        return definition

    def checked(self, among: tuple[str, ...]) -> Definition:
        """Check the file and return what it defines.

        Raises:
            PipelineError: there are errors, or changes without effect; the message is the first one, and counts the others.
        """
        definition = self.file(among)
        if errors := self.findings.errors or list(self._changes_in_vain()):
            first, more = errors[0], len(errors) - 1
            rest = f" (and {more} more: `mlops job lint {self.path}`)" if more else ""
            raise PipelineError(f"{first.file}:{first.line}: {first.message}", first.suggestion + rest)
        assert definition is not None
        return definition

    def _changes_in_vain(self) -> Iterator[Finding]:
        """Yield changes to keys and inputs without effect: a definition may have those, but changing one is a mistake."""
        typed = {repr(part) for change in self.changes for part in change.path}
        for finding in self.findings:
            if finding.rule in ("ignored-key", "surplus-input") and any(word in finding.message for word in typed):
                yield finding

    def _own_name(self, definition: Definition) -> None:
        """Check the name of a component, which it needs to be registered, but not to be used by a pipeline."""
        name = getattr(definition.model, "name", None)
        if definition.kind not in COMPONENTS or (name and _NAME.fullmatch(name)):
            return
        message = f"a component cannot be registered as {name!r}" if name else "the component has no name"
        hint = "add `name: ...` of lowercase letters, digits and underscores; a pipeline accepts the file as it is"
        definition.report("component-name", message, hint, "name")

    def _definition(self, definition: Definition) -> None:
        if id(definition) in self._done:
            return
        self._done.add(id(definition))
        model = definition.model
        self._names(definition)
        self._tags(definition)
        self._references(definition)
        check_written(definition)
        self.files.check_data(definition, getattr(model, "inputs", {}))
        includes = getattr(model, "additional_includes", None) or ()
        self.files.used.update((definition.file.parent / item).resolve() for item in includes)
        if isinstance(model, CommandComponent | ParallelComponent):
            check_component(definition)
            self._run_files(definition, model, definition.node)
        elif isinstance(model, CommandJob):
            check_job(definition)
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
        """Check names of inputs and outputs: Azure ML makes identifiers of them, except for inputs of a command job."""
        for root in ("inputs", "outputs"):
            for name in getattr(definition.model, root, {}):
                if not name.isidentifier() or not name.isascii():
                    rule, message = "name", f"{name!r} cannot be the name of an {root[:-1]}"
                    if root == "inputs" and definition.kind in ("commandJob", "sweepJob"):
                        rule, message = "input-name", f"{message} in a component or pipeline"
                    hint = "use letters, digits and underscores; begin with a letter"
                    definition.report(rule, message, hint, root, name)

    def _tags(self, definition: Definition) -> None:
        """Check the tags that say what a step reads, in which Azure ML accepts anything."""
        inputs = getattr(definition.model, "inputs", {})
        for name, wanted in sections_read(getattr(definition.model, "tags", None) or {}).items():
            if name not in inputs:
                message = f"the tag {READS + name!r} names an unknown input of this {definition.type}"
                definition.report("tag", message, nearest(name, inputs), "tags", READS + name)
            for word in wanted:
                if self.sections and word not in self.sections:
                    message = f"the tag {READS + name!r} names {word!r}, which is not a section of a workload"
                    definition.report("tag", message, nearest(word, self.sections), "tags", READS + name)

    def _references(self, definition: Definition) -> None:
        """Check the case of ``azureml:`` and ``@latest``, which Azure ML accepts in lowercase only."""
        for text, line in texts(definition.node):
            found = _REFERENCE.fullmatch(text)
            small = f"azureml:{found[1]}{found[2] or ''}{(found[3] or '').lower()}" if found else text
            if small != text:
                message = f"{text!r} has capital letters where Azure ML accepts only lowercase"
                definition.report_line(line, "reference", message, f"write {small}")

    def _run_files(self, owner: Definition, model: object, node: Mapping, *base: str) -> None:
        """Check code and environment of something that runs; those of a parallel step are in its task."""
        task = getattr(model, "task", None)
        if task is not None:
            if getattr(model, "input_data", None) is None:
                message = "no input_data says which input is split into mini-batches"
                hint = "add `input_data: ${{inputs.NAME}}`; without it the step does not run on this machine"
                owner.report("mini-batches", message, hint, *base, "task")
            model, node, base = task, node["task"], (*base, "task")
        path = self.files.check_code(owner, getattr(model, "code", None), *base, "code")
        if task is not None and path is not None and path.is_dir():
            entry = f"{task.code}/{task.entry_script}"
            self.files.local(entry, owner, owner.line(*base, "entry_script"), "code")
        environment = getattr(model, "environment", None)
        self.files.check_environment(owner, environment, node.get("environment"), *base, "environment")

    def _sweep_job(self, definition: Definition, model: SweepJob) -> None:
        check_job_ports(definition, model.inputs)
        trial = check_sweep(definition, model, self.files)
        if trial is not None:
            self._definition(trial)

    def _pipeline(self, definition: Definition, model: PipelineJob | PipelineComponent) -> None:
        file = definition.file.resolve()
        if isinstance(model, PipelineJob) and model.component is not None:
            self._pipeline_of_component(definition, model, model.component)
            return
        if isinstance(model, PipelineComponent):
            check_declarations(definition, model.inputs)
        self._open.append(file)
        ports = {name: self._step(definition, name, step) for name, step in model.jobs.items()}
        self._open.pop()
        if isinstance(model, PipelineJob):
            self._compute(definition, model)
        Wiring(definition, ports).check()

    def _pipeline_of_component(self, definition: Definition, model: PipelineJob, reference: str) -> None:
        """Check a job whose steps are those of a component: it gives the inputs, and may place the outputs."""
        check_job_ports(definition, model.inputs)
        component = self.files.component(reference, definition, ("component",), ("pipelineComponent",))
        if component is None:
            return
        self._definition(component)
        ports = ports_of(model, component)
        check_known(definition, model.inputs, ports.inputs or {}, "the component")
        check_required(definition, model.inputs, ports.inputs or {}, "the component")
        for name in model.outputs:
            if name not in (ports.outputs or {}):
                hint = nearest(name, ports.outputs or {})
                definition.report("unknown-output", f"the component has no output {name!r}", hint, "outputs", name)

    def _compute(self, definition: Definition, model: PipelineJob) -> None:
        """Check that each step has a compute: on this machine it needs none, but Azure ML's SDK refuses such a pipeline."""
        default = model.settings.default_compute if model.settings else None
        if self._unplaced and not default and not model.compute:
            message = f"step {self._unplaced[0]!r} has no compute, and the pipeline has no default"
            hint = "add `settings: {default_compute: azureml:cpu-cluster}`, or give each step a compute"
            definition.report("compute", message, hint, "settings")

    def _step(self, definition: Definition, name: str, step: Step) -> Ports:
        base, node = ("jobs", name), definition.node["jobs"][name]
        self.files.check_data(definition, step.inputs, *base)
        component: Definition | None = None
        if isinstance(step, SweepStep):
            component = check_sweep(definition, step, self.files, *base)
        elif isinstance(step, ComponentStep | AzureStep) and step.component is not None:
            component = self.files.component(step.component, definition, (*base, "component"))
            if component is not None and component.type != (step.type or "command"):
                message = f"step {name!r} is of type {step.type or 'command'}, its component of type {component.type}"
                definition.report("step-type", message, f"write `type: {component.type}`", *base, "type")
            prefixed = isinstance(step.component, str) and step.component.startswith("file:")
            if prefixed and component is not None and component.type == "pipeline":
                message = f"step {name!r}: Azure ML's SDK accepts no `file:` before a pipeline component"
                hint = f"write {str(step.component).removeprefix('file:')}"
                definition.report("component", message, hint, *base, "component")
        if isinstance(step, CommandStep | ParallelStep | ComponentStep):
            self._run_files(definition, step, node, *base)
        if component is not None:
            inside = isinstance(component.model, PipelineComponent) and component.file.resolve() in self._open
            if inside and component.node is not node.get("component"):
                message = f"step {name!r}: the pipeline {component.file.name} contains itself"
                definition.report("cycle", message, "name another component", *base, "component")
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
                message = f"Azure ML reads day of month and month as *, but here they are {day} and {month}"
                hint = f"write `{minute} {hour} * * {weekday}`, or a recurrence by month"
                definition.report("cron-months", message, hint, "trigger", "expression")
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
        if override is not None:
            assert isinstance(override.model, ScheduledJob)
            check_known(override, override.model.inputs, getattr(job.model, "inputs", {}), "the job")
