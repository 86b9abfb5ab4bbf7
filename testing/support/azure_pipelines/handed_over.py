"""What one step leaves for another, and whether the other one looks for it there.

Variables of the environment, folders, artifacts, results of tests, files of the repository, and pipelines that are started.
"""

from __future__ import annotations

import fnmatch
import functools
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from testing.support.azure_pipelines.called_commands import SHELL, Called, called
from testing.support.azure_pipelines.devops_service import RUNS
from testing.support.azure_pipelines.expression import MACRO
from testing.support.azure_pipelines.known_names import KnownNames
from testing.support.azure_pipelines.pipeline_files import PipelineFiles
from testing.support.azure_pipelines.pipeline_model import Pipeline
from testing.support.azure_pipelines.predefined_variables import IN_THE_RUN, SECRET, environment_name

import vision_mlops
from vision_mlops.config.workload_files import own_workload, shipped_workloads
from vision_mlops.core.errors import ConfigError, DeploymentError, MlopsError
from vision_mlops.devops.run_start import run_address
from vision_mlops.rollout.rollout_settings import parse_steps

REGISTERED = "registered"
"""The parameter that a finished training starts its pipeline with."""
_OWN_WORKLOADS = own_workload("textile").parent
"""Where users put workloads of their own: a folder that the template comes without."""
_ON_THE_AGENT = re.compile(r"\$\((Agent\.TempDirectory|Build\.ArtifactStagingDirectory|Pipeline\.Workspace)\)")
_FILE = re.compile(r"[\w.-]+(/[\w.-]+)+\.\w{2,5}")
_RESULT = re.compile(r"\$\(RESULTS\)(/[\w/]+\.\w+)")


def problems(pipeline: Pipeline, known: KnownNames, files: PipelineFiles) -> list[str]:
    """A line for each thing that one step leaves and no other finds, and the other way round."""
    steps = called(pipeline)
    found = [
        *_environment(steps, known),
        *_artifacts(steps),
        *_folders(steps),
        *_results(steps, files.root),
        *_repository(pipeline, steps, files.root),
        *_started(steps, known, files),
        *_understood(steps, files.root),
    ]
    return list(dict.fromkeys(found))


@functools.cache
def _read_by_code() -> frozenset[str]:
    """Names that the code may find in its environment: those that it quotes."""
    texts = [path.read_text(encoding="utf-8") for path in Path(vision_mlops.__file__).parent.rglob("*.py")]
    return frozenset(name for text in texts for name in re.findall(r'"([A-Z][A-Z0-9_]+)"', text))


def _environment(steps: list[Called], known: KnownNames) -> Iterator[str]:
    """A script reads what its step or its job sets; what a step sets is read."""
    for one in steps:
        script = one.step.script
        reads = {found[1] or found[2] for found in SHELL.finditer(script)}
        levels = (one.pipeline.variables, one.stage.variables, one.job.variables)
        names = [variable.name for level in levels for variable in level.variables]
        names += [name for level in levels for group in level.groups for name in known.groups.get(group, ())]
        names += [name for name in IN_THE_RUN if name not in SECRET]
        for name in sorted(reads - set(one.step.env) - {environment_name(name) for name in names}):
            yield f"{one.where}: nothing sets ${name}, which it reads"
        for name in sorted(set(one.step.env) - reads - _read_by_code()):
            yield f"{one.where}: nobody reads {name} of its env"


def _artifacts(steps: list[Called]) -> Iterator[str]:
    """What is fetched was published before, with the files that are then named in it."""
    published = {_artifact(one): one for one in steps if one.step.task.startswith("PublishPipelineArtifact@")}
    for one in steps:
        if "DownloadPipelineArtifact@2" not in one.names:
            continue
        source = published.get(_artifact(one))
        if source is None or not source.comes_before(one):
            yield f"{one.where}: no step before publishes the artifact {_artifact(one)!r}"
            continue
        target, origin = one.inputs.get("targetPath", "$(Pipeline.Workspace)"), source.inputs.get("targetPath", "")
        made = {value for other in steps if other.job is source.job for value in other.values()}
        users = [other for other in steps if other.job is one.job and one.comes_before(other)]
        for value in sorted({value for other in users for value in other.values() if value.startswith(f"{target}/")}):
            if origin + value.removeprefix(target) not in made:
                yield f"{one.where}: nothing writes {value.removeprefix(target)} into the artifact {_artifact(one)!r}"


def _artifact(one: Called) -> str:
    return one.inputs.get("artifactName") or one.inputs.get("artifact") or ""


def _folders(steps: list[Called]) -> Iterator[str]:
    """A place on the agent that one step writes is read by another one of its job, and the other way round."""
    for one in steps:
        others = [other for other in steps if other.job is one.job and other is not one]
        there = [value for other in others for value in other.values() if _ON_THE_AGENT.match(value)]
        for value in one.values():
            if _ON_THE_AGENT.match(value) and not any(_below(value, other) or _below(other, value) for other in there):
                yield f"{one.where}: no other step names {value}"


def _below(path: str, folder: str) -> bool:
    return PurePosixPath(path).is_relative_to(PurePosixPath(folder))


def _results(steps: list[Called], root: Path) -> Iterator[str]:
    """All results that targets of the Makefile write are published, and whatever is published is written."""
    makefile = (root / "Makefile").read_text(encoding="utf-8")
    written: dict[str, Called] = {}
    for one in steps:
        for name in one.names:
            recipe = re.search(rf"^{re.escape(name.removeprefix('make '))}:.*\n((?:\t.*\n)*)", makefile, re.MULTILINE)
            for file in _RESULT.findall(recipe[1] if recipe else ""):
                written[one.assigned.get("RESULTS", "outputs/tests") + file] = one
    published = [(one, pattern) for one in steps if (pattern := _published(one))]
    for publisher, pattern in published:
        if not any(fnmatch.fnmatch(file, pattern) for file in written):
            yield f"{publisher.where}: no step writes {pattern}"
    for file, writer in written.items():
        if not any(fnmatch.fnmatch(file, pattern) for _, pattern in published):
            yield f"{writer.where}: nobody publishes {file}"


def _published(one: Called) -> str:
    if one.step.task.startswith("PublishTestResults@"):
        return f"{one.inputs.get('searchFolder', '')}/{one.inputs.get('testResultsFiles', '')}"
    return one.inputs.get("summaryFileLocation", "") if one.step.task.startswith("PublishCodeCoverage") else ""


def _repository(pipeline: Pipeline, steps: list[Called], root: Path) -> Iterator[str]:
    """Files that commands are given, and paths whose changes start a pipeline, are in the repository."""
    for one in steps:
        for value in one.values():
            if _FILE.fullmatch(value) and not (root / value).is_file():
                yield f"{one.where}: the file {value} does not exist"
        tried = one.option("--image") if "mlops endpoint test" in one.names else None
        tried = one.assigned.get("IMAGE") if "make smoke-app" in one.names else tried
        if tried is not None and not (root / tried).is_file():
            yield f"{one.where}: {tried} is not an image of the repository"
        if "mlops pipeline publish" in one.names and (root / one.subject).is_file():
            problem = _no_pipeline_component(root / one.subject)
            if problem:
                yield f"{one.where}: {problem}"
    for trigger in pipeline.triggers.values():
        paths = trigger.get("paths", {}) if isinstance(trigger, dict) else {}
        for path in [*paths.get("include", ()), *paths.get("exclude", ())]:
            if not (root / path).exists() and Path(path) != _OWN_WORKLOADS:
                yield f"{pipeline.path}: the path {path} of a trigger does not exist"


@functools.cache
def _no_pipeline_component(file: Path) -> str:
    """What ``mlops pipeline publish`` says of a file that it does not take."""
    from vision_mlops.jobs.azureml.submission import checked

    try:
        checked(file, (), ("pipelineComponent",))
    except MlopsError as error:
        return f"{file.name} cannot be published: {error}"
    return ""


def _started(steps: list[Called], known: KnownNames, files: PipelineFiles) -> Iterator[str]:
    """Pipelines that are started exist, at an address that the service has, and take the parameters."""
    for one in steps:
        if "mlops devops start" in one.names:
            given = [value for word, value in zip(one.words, one.words[1:], strict=False) if word == "--parameter"]
            yield from _taken(one, one.subject, {value.partition("=")[0] for value in given}, known, files)
        callback = one.option("--on-registered")
        if callback is not None:
            yield from _callback(one, callback)
            name = PurePosixPath(one.pipeline.path).stem.removesuffix("_pipeline")
            yield from _taken(one, name, {REGISTERED}, known, files)


def _understood(steps: list[Called], root: Path) -> Iterator[str]:
    """The code takes the values of parameters."""
    for one in steps:
        workload = one.option("--workload")
        own = root / _OWN_WORKLOADS / f"{workload}.yml"
        if workload is not None and workload not in shipped_workloads() and not own.is_file():
            yield f"{one.where}: no workload {workload!r} is shipped"
        try:
            parse_steps(one.option("--steps") or "100")
        except DeploymentError as error:
            yield f"{one.where}: {error}"


def _taken(one: Called, name: str, given: set[str], known: KnownNames, files: PipelineFiles) -> Iterator[str]:
    if name not in known.pipelines:
        yield f"{one.where}: the pipeline {name!r} does not exist"
        return
    path = str(PurePosixPath(one.pipeline.path).with_name(f"{name}_pipeline.yml"))
    taken = {item["name"] for item in files.tree(path).get("parameters", [])}
    for parameter in sorted(given - taken):
        yield f"{one.where}: the pipeline {name!r} has no parameter {parameter!r}"


def _callback(one: Called, address: str) -> Iterator[str]:
    """The address is that of the pipeline itself, as ``mlops models register --on-registered`` takes it."""
    of_the_run = {"system.collectionuri": "https://dev.azure.com/contoso/", "system.definitionid": "11"}
    url = MACRO.sub(lambda found: of_the_run.get(found[1].lower(), "7"), address)
    try:
        path = urlsplit(run_address(url).url).path
    except ConfigError as error:
        yield f"{one.where}: {error}"
        return
    number = RUNS.search(path)
    if number is None or number[1] != of_the_run["system.definitionid"]:
        yield f"{one.where}: {address} is not the address of this pipeline"
