"""A pipeline as it runs: stages, jobs and steps, read strictly from what the expansion of templates leaves."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from testing.support.azure_pipelines.pipeline_errors import PipelineError
from testing.support.azure_pipelines.pipeline_files import Tree

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PIPELINE = (
    "name", "appendCommitMessageToRunName", "trigger", "pr", "schedules", "resources", "variables", "stages", "lockBehavior",
)  # fmt: skip
_ONE_JOB = (
    "displayName", "condition", "continueOnError", "pool", "container", "strategy", "workspace", "timeoutInMinutes",
    "cancelTimeoutInMinutes", "variables", "dependsOn", "services", "uses",
)  # fmt: skip
_STAGE = (
    "stage", "displayName", "pool", "dependsOn", "condition", "variables", "jobs", "lockBehavior", "trigger", "isSkippable",
)  # fmt: skip
_STEP = (
    "name", "displayName", "condition", "continueOnError", "enabled", "env", "timeoutInMinutes", "target",
    "retryCountOnTaskFailure",
)  # fmt: skip
_SHELLS = ("script", "bash")
_SHELL_INPUTS = ("workingDirectory", "failOnStderr")
_SHORT = {
    "publish": ("PublishPipelineArtifact@1", {"publish": "targetPath", "artifact": "artifactName"}),
    "download": (
        "DownloadPipelineArtifact@2",
        {"download": "source", "artifact": "artifactName", "patterns": "itemPattern", "path": "targetPath"},
    ),
}
HOOKS = ("preDeploy", "deploy", "routeTraffic", "postRouteTraffic")
"""Phases of a deployment by runOnce, in order; each is a job of its own on the agent."""
ENDINGS = ("failure", "success")


@dataclass(frozen=True)
class Variable:
    """One that the definition sets."""

    name: str
    value: str
    readonly: bool = False
    file: str = ""


@dataclass(frozen=True)
class Variables:
    """What a level declares: variables in order, and groups that are linked."""

    variables: tuple[Variable, ...] = ()
    groups: tuple[str, ...] = ()


@dataclass(frozen=True)
class Step:
    """One step: a script, a checkout, or a task with its inputs."""

    task: str
    inputs: Mapping[str, str] = field(default_factory=dict)
    name: str = ""
    display_name: str = ""
    condition: str = "succeeded()"
    env: Mapping[str, str] = field(default_factory=dict)
    enabled: bool = True
    continue_on_error: str = "false"
    minutes: float = 0
    retries: int = 0

    @property
    def title(self) -> str:
        """What people see."""
        return self.display_name or self.inputs.get("script", self.task).strip().partition("\n")[0]

    @property
    def script(self) -> str:
        """The lines that it runs in a shell; empty for what runs none."""
        return self.inputs.get("script") or self.inputs.get("inlineScript") or ""


@dataclass(frozen=True)
class Job:
    """A job with its steps; a deployment has some for each phase."""

    name: str
    phases: Mapping[str, tuple[Step, ...]]
    environment: str = ""
    display_name: str = ""
    depends_on: tuple[str, ...] = ()
    condition: str = "succeeded()"
    variables: Variables = Variables()
    pool: Mapping[str, str] = field(default_factory=dict)
    container: str = ""
    minutes: float = 60
    continue_on_error: str = "false"

    @property
    def is_deployment(self) -> bool:
        """Whether it deploys to an environment."""
        return bool(self.environment)

    def steps(self) -> Iterator[Step]:
        """All, of every phase."""
        for steps in self.phases.values():
            yield from steps


@dataclass(frozen=True)
class Stage:
    """Jobs that start together when the stages before them are done."""

    name: str
    jobs: tuple[Job, ...]
    display_name: str = ""
    depends_on: tuple[str, ...] = ()
    condition: str = "succeeded()"
    variables: Variables = Variables()


@dataclass(frozen=True)
class Pipeline:
    """The whole definition."""

    path: str
    stages: tuple[Stage, ...]
    variables: Variables = Variables()
    triggers: Mapping[str, Any] = field(default_factory=dict)
    resources: Mapping[str, Any] = field(default_factory=dict)
    run_name: str = ""

    def jobs(self) -> Iterator[tuple[Stage, Job]]:
        """All jobs, with their stages."""
        for stage in self.stages:
            for job in stage.jobs:
                yield stage, job

    def steps(self) -> Iterator[tuple[Stage, Job, Step]]:
        """All steps, with their jobs and stages."""
        for stage, job in self.jobs():
            for step in job.steps():
                yield stage, job, step


def pipeline_of(tree: Mapping[str, Tree], path: str) -> Pipeline:
    """Read what is left of a pipeline after the expansion.

    Raises:
        PipelineError: something is not a key, a name or a step.
    """
    tree = dict(tree)
    if "stages" not in tree:
        jobs = tree.pop("jobs", None)
        if jobs is None:
            if "steps" not in tree:
                raise PipelineError(f"{path}: no stages, jobs or steps")
            job = {key: tree.pop(key) for key in (*_ONE_JOB, "steps") if key in tree and key != "variables"}
            jobs = [{"job": "Job", **job}]
        common = {key: tree.pop(key) for key in ("pool",) if key in tree}
        tree["stages"] = [{"stage": "__default", "jobs": jobs, **common}]
    pool = tree.pop("pool", None)
    _known(tree, _PIPELINE, path)
    stages: list[Stage] = []
    for item in tree["stages"]:
        stages.append(_stage(item, stages, pool, path))
    _unique([stage.name for stage in stages], f"{path}: stages")
    return Pipeline(
        path, tuple(stages), _variables(tree.get("variables", []), path),
        {key: tree[key] for key in ("trigger", "pr", "schedules") if key in tree}, tree.get("resources") or {},
        tree.get("name", ""),
    )  # fmt: skip


def _stage(tree: Mapping[str, Tree], before: list[Stage], pool: Tree, path: str) -> Stage:
    _known(tree, _STAGE, path)
    name = tree.get("stage", "")
    where = f"{path}: stage {name}"
    _named(name, where)
    jobs = [_job(job, tree.get("pool", pool), where) for job in tree.get("jobs", [])]
    if not jobs:
        raise PipelineError(f"{where} has no jobs")
    _unique([job.name for job in jobs], f"{where}: jobs")
    depends = _names(tree["dependsOn"]) if "dependsOn" in tree else tuple(stage.name for stage in before[-1:])
    return Stage(
        name, tuple(jobs), tree.get("displayName", ""), depends, tree.get("condition") or "succeeded()",
        _variables(tree.get("variables", []), where),
    )  # fmt: skip


def _job(tree: Mapping[str, Tree], pool: Tree, where: str) -> Job:
    kind = "deployment" if "deployment" in tree else "job"
    more = ("deployment", "environment") if kind == "deployment" else ("job", "steps")
    name = tree.get(kind, "")
    where = f"{where}: {kind} {name}"
    _known(tree, (*_ONE_JOB, *more), where)
    _named(name, where)
    container = tree.get("container", "")
    environment = tree.get("environment", "")
    if isinstance(environment, Mapping):
        environment = environment.get("name", "")
    if kind == "deployment" and not environment:
        raise PipelineError(f"{where} has no environment")
    found = tree.get("pool", pool)
    return Job(
        name, _phases(tree, where) if kind == "deployment" else {"steps": _steps(tree.get("steps"), where, checkout=True)},
        environment, tree.get("displayName", ""), _names(tree.get("dependsOn", [])), tree.get("condition") or "succeeded()",
        _variables(tree.get("variables", []), where), {"name": found} if isinstance(found, str) else (found or {}),
        container.get("image", "") if isinstance(container, Mapping) else container,
        float(tree.get("timeoutInMinutes", 60)), tree.get("continueOnError", "false"),
    )  # fmt: skip


def _phases(tree: Mapping[str, Tree], where: str) -> dict[str, tuple[Step, ...]]:
    strategy = tree.get("strategy") or {}
    if set(strategy) != {"runOnce"}:
        raise PipelineError(f"{where}: of the strategies only runOnce is known, not {', '.join(strategy) or 'none'}")
    content = strategy["runOnce"]
    _known(content, (*HOOKS, "on"), f"{where}: runOnce")
    if "deploy" not in content:
        raise PipelineError(f"{where}: runOnce has no deploy")
    endings = content.get("on") or {}
    _known(endings, ENDINGS, f"{where}: on")
    found = {hook: content[hook] for hook in HOOKS if hook in content}
    found |= {f"on.{ending}": endings[ending] for ending in ENDINGS if ending in endings}
    for phase, body in found.items():
        _known(body, ("steps", "pool"), f"{where}: {phase}")
    return {phase: _steps(body.get("steps"), f"{where}: {phase}") for phase, body in found.items()}


def _steps(tree: Tree, where: str, checkout: bool = False) -> tuple[Step, ...]:
    """The steps of a job. One that is no deployment gets the sources first where it does not say otherwise."""
    if not tree:
        raise PipelineError(f"{where} has no steps")
    steps = [_step(item, where) for item in tree]
    _unique([step.name for step in steps if step.name], f"{where}: steps")
    if checkout and not any(step.task == "checkout" for step in steps):
        steps.insert(0, Step("checkout", {"repository": "self"}))
    return tuple(steps)


def _step(tree: Tree, where: str) -> Step:
    if not isinstance(tree, Mapping):
        raise PipelineError(f"{where}: not a step: {tree!r}")
    kinds = [key for key in (*_SHELLS, "checkout", "task", *_SHORT) if key in tree]
    if len(kinds) != 1:
        raise PipelineError(f"{where}: not a step: {', '.join(tree)}")
    (kind,) = kinds
    own: tuple[str, ...] = (kind,)
    if kind in _SHELLS:
        own += _SHELL_INPUTS
        task, inputs = kind, {"script": tree[kind], **{key: tree[key] for key in _SHELL_INPUTS if key in tree}}
    elif kind == "checkout":
        own += ("clean", "fetchDepth", "fetchTags", "lfs", "persistCredentials", "submodules", "path", "fetchFilter")
        task, inputs = kind, {"repository" if key == kind else key: tree[key] for key in own if key in tree}
    elif kind == "task":
        own += ("inputs",)
        task, inputs = tree[kind], dict(tree.get("inputs") or {})
    else:
        task, names = _SHORT[kind]
        own += tuple(names)
        inputs = {names[key]: tree[key] for key in names if key in tree}
    _known(tree, (*_STEP, *own), f"{where}: {kind} {tree[kind]!r:.60}")
    name = tree.get("name", "")
    if name:
        _named(name, f"{where}: step {name}")
    return Step(
        task, inputs, name, tree.get("displayName", ""), tree.get("condition") or "succeeded()", tree.get("env") or {},
        tree.get("enabled", "true").lower() != "false", tree.get("continueOnError", "false"),
        float(tree.get("timeoutInMinutes", 0)), int(tree.get("retryCountOnTaskFailure", 0)),
    )  # fmt: skip


def _variables(tree: Tree, where: str) -> Variables:
    variables, groups = [], []
    for item in tree:
        _known(item, ("name", "value", "readonly", "group", "file"), f"{where}: variables")
        if "group" in item:
            groups.append(item["group"])
        elif "name" in item and "value" in item:
            readonly = item.get("readonly", "false").lower() == "true"
            variables.append(Variable(item["name"], item["value"], readonly, item.get("file", "")))
        else:
            raise PipelineError(f"{where}: a variable without name or value: {dict(item)}")
    return Variables(tuple(variables), tuple(groups))


def _names(tree: Tree) -> tuple[str, ...]:
    if isinstance(tree, str):
        return (tree,) if tree else ()
    return tuple(tree)


def _known(tree: Tree, keys: tuple[str, ...], where: str) -> None:
    if not isinstance(tree, Mapping):
        raise PipelineError(f"{where}: a mapping is expected, not {tree!r}")
    unknown = sorted(set(tree) - set(keys))
    if unknown:
        raise PipelineError(f"{where}: unexpected {', '.join(unknown)}")


def _named(name: str, where: str) -> None:
    if not _NAME.fullmatch(name):
        raise PipelineError(f"{where}: the name {name!r} is not made of letters, digits and underscores")


def _unique(names: list[str], where: str) -> None:
    lower = [name.lower() for name in names]
    twice = sorted({name for name in lower if lower.count(name) > 1})
    if twice:
        raise PipelineError(f"{where}: {', '.join(twice)} is there twice")
