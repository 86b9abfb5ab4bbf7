"""Finds out what a file defines and reads it with the matching model; mistakes become findings with their line."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from vision_mlops.core.errors import in_plain_words
from vision_mlops.core.text import closest
from vision_mlops.jobs.definitions.change_targets import Schema
from vision_mlops.jobs.definitions.findings import Findings
from vision_mlops.jobs.definitions.models.azure_only import (
    AzureComponent,
    AzureDeployment,
    AzureEndpoint,
    AzureJob,
    PromptFlow,
    in_words,
    way_of,
)
from vision_mlops.jobs.definitions.models.base_model import AssetDefinition, Environment, ModelAsset
from vision_mlops.jobs.definitions.models.schedule import Schedule, ScheduledJob
from vision_mlops.jobs.definitions.models.steps import (
    CommandComponent,
    CommandJob,
    ParallelComponent,
    PipelineComponent,
    PipelineJob,
    SweepJob,
    TrialDefinition,
)
from vision_mlops.jobs.definitions.other_files import resource_of
from vision_mlops.jobs.definitions.overrides import Change, apply_changes
from vision_mlops.jobs.definitions.yaml_source import Mapping, line_at, read

_HOST = "https://azuremlschemas.azureedge.net/latest/"
_MODELS: dict[str, tuple[type[BaseModel], str]] = {
    "commandComponent": (CommandComponent, "command"),
    "parallelComponent": (ParallelComponent, "parallel"),
    "pipelineComponent": (PipelineComponent, "pipeline"),
    "commandJob": (CommandJob, "command"),
    "pipelineJob": (PipelineJob, "pipeline"),
    "sweepJob": (SweepJob, "sweep"),
    "schedule": (Schedule, "schedule"),
    "environment": (Environment, "environment"),
    "data": (AssetDefinition, "data"),
    "model": (ModelAsset, "model"),
    "trial": (TrialDefinition, "command"),
    "scheduledJob": (ScheduledJob, "pipeline"),
    "autoMLJob": (AzureJob, "automl"),
    "sparkJob": (AzureJob, "spark"),
    "importJob": (AzureJob, "import"),
    "autoMLComponent": (AzureComponent, "automl"),
    "sparkComponent": (AzureComponent, "spark"),
    "importComponent": (AzureComponent, "import"),
    "dataTransferComponent": (AzureComponent, "data_transfer"),
    "Flow": (PromptFlow, "parallel"),
    "Run": (PromptFlow, "parallel"),
    "managedOnlineEndpoint": (AzureEndpoint, ""),
    "kubernetesOnlineEndpoint": (AzureEndpoint, ""),
    "batchEndpoint": (AzureEndpoint, ""),
    "managedOnlineDeployment": (AzureDeployment, ""),
    "kubernetesOnlineDeployment": (AzureDeployment, ""),
    "batchDeployment": (AzureDeployment, ""),
    "modelBatchDeployment": (AzureDeployment, ""),
    "pipelineComponentBatchDeployment": (AzureDeployment, ""),
}
FILES = tuple(kind for kind in _MODELS if kind not in ("trial", "scheduledJob"))  # those are parts of a file
ASSETS = ("environment", "data", "model")
COMPONENTS = ("commandComponent", "parallelComponent", "pipelineComponent")
JOBS = ("commandJob", "pipelineJob", "sweepJob")
AZURE_JOBS = ("autoMLJob", "sparkJob", "importJob")  # run on Azure only
_AZURE_COMPONENTS = ("autoMLComponent", "sparkComponent", "importComponent", "dataTransferComponent", "Flow", "Run")
STEP_COMPONENTS = (*COMPONENTS, *_AZURE_COMPONENTS)
_FAMILIES = ((*JOBS, *AZURE_JOBS), (*COMPONENTS, *_AZURE_COMPONENTS[:-2]))  # within which `type` decides
_PARTS = {
    "trial": (TrialDefinition, CommandComponent),
    "component": (CommandComponent, ParallelComponent, PipelineComponent),
}


@dataclass(frozen=True)
class Definition:
    """A file, or a part of one, whose structure has no errors; ``findings`` collects what else is wrong with it."""

    kind: str
    model: BaseModel
    node: Mapping
    file: Path
    findings: Findings

    @property
    def type(self) -> str:
        """The ``type`` of a step that uses the definition."""
        return _MODELS[self.kind][1]

    def line(self, *path: str | int) -> int:
        """Return the line of a key."""
        return line_at(self.node, *path)

    def report(self, rule: str, message: str, suggestion: str, *path: str | int) -> None:
        """Report a mistake in the line of a key."""
        self.report_line(self.line(*path), rule, message, suggestion)

    def report_line(self, line: int, rule: str, message: str, suggestion: str) -> None:
        """Report a mistake in a line."""
        self.findings.report(self.file, line, rule, message, suggestion)


def load(
    path: Path,
    findings: Findings,
    among: tuple[str, ...] = FILES,
    changes: Iterable[Change] = (),
    component: Callable[[str], Mapping | None] = lambda reference: None,
) -> Definition | None:
    """Read a file; return None, with errors in ``findings``, if it is not of an accepted kind.

    Args:
        path: The file.
        findings: Collects its mistakes.
        among: The accepted kinds.
        changes: Applied to its content.
        component: Returns the content of a component that it names, whose inputs have types.

    Raises:
        PipelineError: ``changes`` cannot be applied.
    """
    node = read(path, findings)
    if node is None:
        return None
    apply_changes(node, changes, path, Schema([_MODELS[kind][0] for kind in among], _PARTS, component))
    if (resource := resource_of(node)) is not None:
        what, command = resource
        line = line_at(node, "$schema" if "$schema" in node else "type")
        findings.report(path, line, "kind", f"the file defines {what}, not a job", f"use `{command} --file {path}`")
        return None
    kind = _by_schema(path, node, findings) if "$schema" in node else None
    if kind is None:
        kind = _by_content(node, among) or _by_content(node, FILES)
        where = f"put `$schema: {_HOST}{kind or 'pipelineJob'}.schema.json` first"
        if kind is None:
            findings.report(path, 1, "kind", "neither $schema nor the keys say what this file defines", where)
            return None
        if "$schema" not in node:
            findings.report(path, 1, "schema", f"$schema is missing; read as {kind}", where)
    if kind not in among:
        if kind in AZURE_JOBS and "commandJob" in among:
            task = node.get("task")
            message = f"{in_words(_MODELS[kind][1], 'job', task)} needs Azure"
            findings.report(path, line_at(node, "type"), "kind", message, way_of(task))
            return None
        article = "an" if kind[0] in "aeiou" else "a"
        hint = _command_of(kind, path) or f"accepted here: {', '.join(among)}"
        findings.report(path, line_at(node, "$schema"), "kind", f"the file defines {article} {kind}", hint)
        return None
    return parse(kind, node, path, findings)


def parse(kind: str, node: Mapping, file: Path, findings: Findings) -> Definition | None:
    """Read a mapping as one kind of definition; unknown keys and wrong values become findings."""
    before = len(findings.errors)
    model = _MODELS[kind][0]
    try:
        result = model.model_validate(node, context=partial(findings.report, file))
    except ValidationError as error:
        _report(error, node, file, findings)
        return None
    return Definition(kind, result, node, file, findings) if len(findings.errors) == before else None


def inline(node: Mapping, file: Path, findings: Findings, among: tuple[str, ...]) -> Definition | None:
    """Read a definition that is part of another."""
    kind = _by_content(node, among)
    if kind is None:
        message = "the keys do not say what this defines"
        findings.report(file, node.line, "kind", message, f"add `type`; accepted here: {', '.join(among)}")
        return None
    return parse(kind, node, file, findings)


def _by_schema(path: Path, node: Mapping, findings: Findings) -> str | None:
    """Return the kind that $schema names, or ``type`` where the two differ: Azure ML's SDK goes by ``type`` alone."""
    value, line = node["$schema"], node.lines["$schema"]
    name = str(value).rsplit("/", 1)[-1].removesuffix(".json").removesuffix(".schema")
    known = {kind.lower(): kind for kind in FILES}
    if next(iter(node)) != "$schema":
        findings.report(path, line, "schema", "$schema is not the first key", "move it to the first line")
    kind = known.get(name.lower())
    if kind is None:
        near = closest(name, FILES, cutoff=0.85)  # not sparkComponent for commandComponent
        message = f"unknown $schema {str(value)[:100]!r}"
        hint = f"did you mean {_HOST}{(near or ['pipelineJob'])[0]}.schema.json?"
        findings.report(path, line, "schema", message, hint)
        return near[0] if near else None
    given, type_ = node.get("type"), _MODELS[kind][1]
    family = next((family for family in _FAMILIES if kind in family), ())
    other = next((item for item in family if _MODELS[item][1] == given), None)
    if other is None or given == type_:
        return kind
    message = f"$schema says {kind}, type says {given!r}; read as {other}"
    findings.report(path, line_at(node, "type"), "schema", message, f"write `type: {type_}`, or another $schema")
    return other


def _command_of(kind: str, path: Path) -> str:
    """Return the command for endpoints and deployments, which no job command accepts; empty for other kinds."""
    if kind.endswith(("Endpoint", "Deployment")):
        what = "batch" if "atch" in kind else "online"
        noun = "endpoint" if kind.endswith("Endpoint") else "deployment"
        to = "batch" if what == "batch" else "kubernetes-endpoint" if kind.startswith("kubernetes") else "managed"
        return f"`az ml {what}-{noun} create --file {path}`, or `mlops deploy --to {to}` for a registered model"
    return ""


_SPECIAL = {"automl": "autoML", "data_transfer": "dataTransfer", "spark": "spark", "import": "import"}
_TELLING: tuple[tuple[set[str], str, str], ...] = (
    ({"trigger", "create_job", "create_monitor", "import_data"}, "", "schedule"),
    ({"trial"}, "sweep", "sweepJob"),
    ({"jobs"}, "pipeline", "pipeline"),
    ({"task"}, "parallel", "parallelComponent"),
    ({"command"}, "command", "command"),
    ({"image", "build", "conda_file"}, "", "environment"),
)
"""Keys any of which identifies the kind, or the ``type`` that does; a kind without an ending is a job or a component."""


def _by_content(node: Mapping, among: tuple[str, ...]) -> str | None:
    """Guess the kind of a file without $schema from its keys."""
    keys, type_ = set(node), str(node.get("type", ""))
    if "job" in keys and "scheduledJob" in among:
        return "scheduledJob"
    if type_ in _SPECIAL:
        kind = _SPECIAL[type_]
    else:
        kind = next((kind for telling, named, kind in _TELLING if telling & keys or (named and type_ == named)), "")
    endings = ("Component", "Job") if _declares_a_component(node) else ("Job", "Component")
    return next((name for name in (kind, *(kind + ending for ending in endings)) if name in among), None)


def _declares_a_component(node: Mapping) -> bool:
    inputs = node.get("inputs")
    entries = inputs.values() if isinstance(inputs, Mapping) else ()
    declared = any(isinstance(item, Mapping) and not {"path", "value"} & set(item) for item in entries)
    return declared or "version" in node or "is_deterministic" in node


def _report(error: ValidationError, node: Mapping, file: Path, findings: Findings) -> None:
    seen: set[tuple[str | int, ...]] = set()
    errors = [(item, _existing(node, item["loc"])) for item in error.errors(include_url=False, include_context=True)]
    fractions = [path for item, path in errors if item["type"] == "float_type"]
    for item, path in errors:
        if item["type"] == "int_type" and path in fractions:  # any number is accepted
            continue
        missing = item["type"] == "missing"
        if path in seen and not missing:  # another branch of the same union
            continue
        seen.add(path)
        line, key = line_at(node, *path), ".".join(str(part) for part in path)
        if missing:
            name = item["loc"][-1]
            where = f" in {key}" if key else ""
            rule = "trigger" if name == "trigger" else "missing-key"
            findings.report(file, line, rule, f"the key {name!r} is missing{where}", f"add `{name}: ...`")
            continue
        message, suggestion = _words(item)
        rule = {"expression": "cron", "early_termination": "early-termination"}.get(
            str(path[-1]) if path else "", "value"
        )
        findings.report(file, line, rule, f"{key}: {message}" if key else message, suggestion)


def _existing(node: Any, location: tuple[str | int, ...]) -> tuple[str | int, ...]:
    """Return the parts of pydantic's location that are keys of the file, without the names of union branches."""
    path: list[str | int] = []
    for part in location:
        inside = part in node if isinstance(node, Mapping) else isinstance(part, int) and isinstance(node, list)
        if inside and (not isinstance(node, list) or int(part) < len(node)):
            path.append(part)
            node = node[part]
    return tuple(path)


def _words(item: Any) -> tuple[str, str]:
    if item["type"] == "union_tag_not_found":
        return "the key 'type' is missing", "add `type: ...`"
    if item["type"] == "union_tag_invalid":
        context = item["ctx"]
        item = {"type": "literal_error", "input": context["tag"], "ctx": {"expected": context["expected_tags"]}}
    message, suggestion = in_plain_words(item)
    return message, suggestion or "see the Azure ML YAML reference"
