"""The rules by which pipelines deliver: in which order, which model, what is tried before it is used, and what is undone.

Each of them holds for any pipeline of the project, whatever its stages and steps are called; only ``PURPOSES`` names them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import PurePosixPath
from typing import cast, get_args

import typer
from testing.support.azure_pipelines.called_commands import Called, called, stages_before
from testing.support.azure_pipelines.expression import Scope
from testing.support.azure_pipelines.expression_values import Names
from testing.support.azure_pipelines.pipeline_model import Pipeline, Step
from testing.support.azure_pipelines.run_results import CANCELED, FAILED, SUCCEEDED
from testing.support.azure_pipelines.status_functions import of_step

from vision_mlops.cli.gate import FailOnVerdict, exit_on
from vision_mlops.evaluation.gate import Decision
from vision_mlops.registry.model_versions import CHAMPION
from vision_mlops.registry.verdict_summary import NOT_JUDGED

DECISIONS = (*get_args(Decision), NOT_JUDGED)
PURPOSES: dict[tuple[str, str], tuple[str, ...]] = {
    ("ci", "__default"): (
        "make check", "make infra-check", "make test-unit", "make test-integration", "PublishTestResults@2",
        "PublishCodeCoverageResults@2",
    ),
    ("model_training", "train"): ("mlops pipeline publish", "mlops pipeline trigger", "mlops job cancel"),
    ("model_training", "verdict"): ("mlops models verdict", "mlops devops start"),
    ("model_deployment", "model"): ("mlops models verdict",),
    ("model_deployment", "staging"): (
        "mlops models image", "make model-image", "mlops deploy", "mlops endpoint test", "mlops models transfer",
    ),
    ("model_deployment", "production"): (
        "mlops models transfer", "mlops rollout start", "mlops endpoint test", "mlops rollout abort",
    ),
    ("docker_image", "build"): (
        "make images", "make images-scan", "PublishPipelineArtifact@1", "make registry-sign-in", "make images-push",
    ),
    ("docker_image", "production"): ("make images-import",),
    ("flask_app_deployment", "package"): ("mlops app package", "PublishPipelineArtifact@1"),
    ("flask_app_deployment", "dev"): (
        "DownloadPipelineArtifact@2", "mlops app deploy", "make smoke-app", "mlops app deploy",
    ),
    ("flask_app_deployment", "prod"): (
        "DownloadPipelineArtifact@2", "mlops app deploy", "make smoke-app", "mlops app deploy",
    ),
}  # fmt: skip
"""By pipeline and stage: what it is for, in the order in which it must happen. More may happen in between."""
_UNDOES = {"mlops rollout abort": "mlops rollout start", "mlops job cancel": "mlops pipeline trigger"}
_OPTIONS = {
    "mlops rollout start": (
        "--create",
        "--on-interrupt",
    ),  # a first version; a cancelled build keeps no half of the traffic
    "mlops rollout abort": ("--if-running", "--take-over"),  # also where nothing has begun, or the agent was lost
    "mlops job cancel": ("--on", "--if-running"),
    "mlops pipeline trigger": ("--job", "--on-registered"),  # nobody waits: the job tells when it has finished
    "mlops models verdict": ("--azure-devops",),
}
"""What a command does not do its work in a pipeline without."""
_RUNS_AFTER: dict[str, set[str]] = {
    "mlops rollout abort": {FAILED, CANCELED},
    "mlops job cancel": {CANCELED},
    "PublishTestResults@2": {SUCCEEDED, FAILED},
    "PublishCodeCoverageResults@2": {SUCCEEDED, FAILED},
}
"""States of the job in which a step runs; all other steps run where nothing has failed."""
_OUTPUT = r"\$\[ *stageDependencies\.\w+\.\w+\.outputs\['(?:\w+\.)*{}'\] *\]"


def problems(pipeline: Pipeline) -> list[str]:
    """A line for each rule that a pipeline breaks."""
    steps = called(pipeline)
    rules: tuple[Callable[[list[Called]], Iterator[str]], ...] = (
        _purposes, _options, _verdicts, _models, _web_apps, _images, _states, _undone,
    )  # fmt: skip
    return list(dict.fromkeys(problem for rule in rules for problem in rule(steps)))


def _purposes(steps: list[Called]) -> Iterator[str]:
    pipeline = steps[0].pipeline
    name = PurePosixPath(pipeline.path).stem.removesuffix("_pipeline")
    for stage in pipeline.stages:
        calls = iter([each for one in steps if one.stage is stage for each in one.names])
        for purpose in PURPOSES.get((name, stage.name), ()):
            if purpose not in calls:  # which goes on from the one before
                yield f"{pipeline.path}: {stage.name}: {purpose!r} is missing, or not in its turn"
                break
        if (name, stage.name) not in PURPOSES:
            yield f"{pipeline.path}: {stage.name}: say in PURPOSES what the stage is for"


def _options(steps: list[Called]) -> Iterator[str]:
    for one in steps:
        missing = [option for name in one.names for option in _OPTIONS.get(name, ()) if option not in one.words]
        if missing:
            yield f"{one.where}: in a pipeline it needs {', '.join(missing)}"
        if "mlops pipeline trigger" in one.names:
            published = [
                other for other in steps if "mlops pipeline publish" in other.names and other.comes_before(one)
            ]
            if one.subject not in [other.option("--endpoint") for other in published]:
                yield f"{one.where}: nothing was published behind {one.subject}"


def _verdicts(steps: list[Called]) -> Iterator[str]:
    """Only `promote` goes on, to the steps after a verdict and to the stages."""
    for one in steps:
        if "mlops models verdict" not in one.names:
            continue
        stages = [other for other in one.pipeline.stages if one.stage.name in stages_before(one.pipeline, other.name)]
        reached: dict[str, set[str]] = {stage.name: set() for stage in stages}
        later = [other.step for other in steps if other.job is one.job and one.comes_before(other)]
        reached |= {step.title: set() for step in later}
        for decision in DECISIONS:
            status = FAILED if _fails(one, decision) else SUCCEEDED
            known = {f"{one.step.name}.decision": decision}
            for step in later:
                reached[step.title] |= {decision} if _runs(step, status, known) else set()
            for stage in stages:
                reached[stage.name] |= {decision} if status == SUCCEEDED else set()
        for name, decisions in reached.items():
            if decisions != {"promote"}:
                found = ", ".join(sorted(decisions)) or "no verdict"
                yield f"{one.where}: {name!r} comes after {found}, and must after promote alone"


def _fails(verdict: Called, decision: str) -> bool:
    """Whether the command ends as failed with a verdict; what no gate has judged is inconclusive to it."""
    try:
        chosen = cast("FailOnVerdict", verdict.option("--fail-on") or "never")
        exit_on("inconclusive" if decision == NOT_JUDGED else decision, chosen)
    except typer.Exit:
        return True
    return False


def _runs(step: Step, status: str, variables: dict[str, str] | None = None) -> bool:
    scope = Scope({"variables": Names(variables or {})}, of_step(status, status == CANCELED), strict=())
    return scope.holds(step.condition)


def _models(steps: list[Called]) -> Iterator[str]:
    """What is served is the version that was judged, known by its digest; the rollout alone makes a champion of it."""
    brought: dict[str, Called] = {}
    for one in steps:
        if one.option("--alias") == CHAMPION or {"mlops models promote", "mlops models rollback"} & set(one.names):
            yield f"{one.where}: the alias {CHAMPION} is moved by the rollout alone"
        if "mlops models transfer" in one.names:
            yield from _transfer(one, steps)
            brought[f"{one.subject}@{one.option('--alias')}"] = one
        if "mlops devops start" in one.names:
            verdicts = [other.step.name for other in steps if "mlops models verdict" in other.names]
            for name in ("model", "digest"):
                if not any(f"{name}=$({verdict}.{name})" in one.words for verdict in verdicts):
                    yield f"{one.where}: the {name} of the verdict is not handed on"
        if {"mlops models image", "mlops deploy", "mlops rollout start"} & set(one.names):
            model = one.subject if "mlops models image" in one.names else one.option("--model") or ""
            source = brought.get(model)
            judged = re.fullmatch(_OUTPUT.format("model"), model) and "mlops rollout start" not in one.names
            if not judged and not (source is not None and source.comes_before(one)):
                yield f"{one.where}: the model is neither what was judged nor what was brought here by its digest"
        if {"mlops deploy", "mlops rollout start"} & set(one.names):
            place = one.option("--endpoint") or one.subject, one.option("--on") or one.option("--to")
            tests = [(each.subject, each.option("--on")) for each in _later(one, steps, "mlops endpoint test")]
            if place not in tests:
                yield f"{one.where}: no smoke test of that endpoint follows"


def _transfer(one: Called, steps: list[Called]) -> Iterator[str]:
    if not re.fullmatch(_OUTPUT.format("digest"), one.option("--digest") or ""):
        yield f"{one.where}: a model goes on by the digest of its verdict alone: no --digest, or another one"
    if not re.fullmatch(_OUTPUT.format("(?:model|name)"), one.subject):
        yield f"{one.where}: {one.subject} is not the model that was judged"
    earlier = [each for each in steps if "mlops models transfer" in each.names and each.comes_before(one)]
    if earlier and one.option("--from") != earlier[-1].option("--to"):
        yield f"{one.where}: it is not taken from where the transfer before has brought it"


def _later(one: Called, steps: list[Called], name: str) -> list[Called]:
    return [other for other in steps if other.job is one.job and one.comes_before(other) and name in other.names]


def _web_apps(steps: list[Called]) -> Iterator[str]:
    """A web app is swapped in once the very same was tried in its slot."""
    tried: dict[int, set[tuple[str, ...]]] = {}
    slots: dict[int, dict[str, tuple[str, ...]]] = {}
    for one in steps:
        job = id(one.job)
        if "mlops app deploy" in one.names:
            what = tuple(word for word in one.words if word not in ("--no-swap", "--azure-devops"))
            if "--no-swap" in one.words:
                slots.setdefault(job, {})[f"$({one.step.name}.url)"] = what
            elif what not in tried.get(job, ()):
                yield f"{one.where}: it is swapped in before a smoke test of it in the slot"
        elif "make smoke-app" in one.names:
            found = slots.get(job, {}).get(one.assigned.get("URL", ""))
            if found:
                tried.setdefault(job, set()).add(found)


def _images(steps: list[Called]) -> Iterator[str]:
    """The images that are scanned, pushed and imported are those that were built."""
    about = [one for one in steps if any(re.fullmatch(r"make images(-\w+)?", name) for name in one.names)]
    for one in about:
        if one.assigned.get("TAG") is None or one.assigned["TAG"] != about[0].assigned.get("TAG"):
            yield f"{one.where}: TAG is not the one that was built"
        source = one.assigned.get("FROM")
        if source is not None and not re.fullmatch(_OUTPUT.format("address"), source):
            yield f"{one.where}: FROM is not the registry that they were pushed to"


def _states(steps: list[Called]) -> Iterator[str]:
    for one in steps:
        wanted = _RUNS_AFTER.get(one.names[0], {SUCCEEDED})
        verdicts = {f"{other.step.name}.decision": "promote" for other in steps if other.step.name}
        runs = {status for status in (SUCCEEDED, FAILED, CANCELED) if _runs(one.step, status, verdicts)}
        if runs != wanted:
            yield f"{one.where}: it runs in a job that has {_spoken(runs)}, and must in one that has {_spoken(wanted)}"


def _spoken(statuses: set[str]) -> str:
    return " or ".join(sorted(status.lower() for status in statuses)) or "no state"


def _undone(steps: list[Called]) -> Iterator[str]:
    """What is undone is what was begun: the same endpoint in the same place, the same job."""
    for one in steps:
        for name in set(one.names) & set(_UNDOES):
            begun = [other for other in steps if _UNDOES[name] in other.names and other.comes_before(one)]
            same = [other for other in begun if one.subject in (other.option("--job"), other.subject)]
            if not any(name != "mlops rollout abort" or one.option("--on") == each.option("--on") for each in same):
                yield f"{one.where}: it undoes nothing that a step before has begun"
