"""Tasks that steps name, done on this machine: results and artifacts are read and kept, connections sign in."""

from __future__ import annotations

import fnmatch
import shutil
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from testing.support.azure_pipelines.agent_job import StepError, StepRun
from testing.support.azure_pipelines.pipeline_errors import PipelineError

Inputs = Mapping[str, str]
KNOWN: dict[str, tuple[str, ...]] = {
    "checkout": (
        "repository", "clean", "fetchDepth", "fetchTags", "lfs", "persistCredentials", "submodules", "path", "fetchFilter",
    ),
    "PublishTestResults@2": (
        "testResultsFormat", "testResultsFiles", "searchFolder", "testRunTitle", "failTaskOnFailedTests",
        "failTaskOnMissingResultsFile", "mergeTestResults", "publishRunAttachments",
    ),
    "PublishCodeCoverageResults@2": ("summaryFileLocation", "pathToSources", "failIfCoverageEmpty"),
    "AzureCLI@2": (
        "azureSubscription", "scriptType", "scriptLocation", "inlineScript", "workingDirectory", "visibleAzLogin",
        "addSpnToEnvironment", "failOnStandardError",
    ),
    "PublishPipelineArtifact@1": ("targetPath", "artifactName", "artifact", "publishLocation"),
    "DownloadPipelineArtifact@2": ("source", "artifactName", "artifact", "itemPattern", "targetPath", "path", "buildType"),
}  # fmt: skip
"""Tasks with the inputs that they take; other ones are refused."""


class Connections(Protocol):
    """Who signs a step in."""

    def sign_in(self, connection: str) -> dict[str, str]:
        """The variables that the task of a service connection gives to its script.

        Raises:
            PipelineError: the connection is unknown or signs nobody in.
        """
        ...


def check_task(task: str, inputs: Inputs) -> list[str]:
    """What is wrong with a task's name and inputs."""
    if task in ("script", "bash"):
        return []
    if task not in KNOWN:
        return [f"the task {task} is not known"]
    unknown = sorted({name.lower() for name in inputs} - {name.lower() for name in KNOWN[task]})
    return [f"{task} has no input {', '.join(unknown)}"] if unknown else []


class Tasks:
    """Does tasks.

    Args:
        connections: Of the project.
    """

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._done: dict[str, Callable[[dict[str, str], StepRun], None]] = {
            "checkout": self._checkout,
            "PublishTestResults@2": self._tests,
            "PublishCodeCoverageResults@2": self._coverage,
            "AzureCLI@2": self._azure,
            "PublishPipelineArtifact@1": self._publish,
            "DownloadPipelineArtifact@2": self._download,
        }

    def do(self, task: str, inputs: Inputs, step: StepRun) -> None:
        """Do a task.

        Raises:
            StepError: it fails.
            PipelineError: it is unknown, or is given what it does not take.
        """
        wrong = check_task(task, inputs)
        if wrong:
            raise PipelineError("; ".join(wrong))
        self._done[task]({name.lower(): value for name, value in inputs.items()}, step)

    def _checkout(self, inputs: dict[str, str], step: StepRun) -> None:
        if inputs["repository"] == "none":
            return
        if inputs["repository"] != "self":
            raise PipelineError(f"the repository {inputs['repository']} is not known")
        target = Path(step.job.variables.get("Build.SourcesDirectory") or "")
        shutil.rmtree(target)
        step.job.machine.check_out(target)

    def _tests(self, inputs: dict[str, str], step: StepRun) -> None:
        if inputs.get("testresultsformat") != "JUnit":
            raise PipelineError("PublishTestResults@2: only JUnit is known")
        folder = Path(inputs.get("searchfolder") or step.job.variables.get("System.DefaultWorkingDirectory") or "")
        files = list(_matching(folder, inputs.get("testresultsfiles", "**/TEST-*.xml")))
        if not files:
            step.say(f"no results in {folder}")
            if _is_true(inputs, "failtaskonmissingresultsfile"):
                raise StepError(f"no test results found in {folder}")
            return
        suites = [suite for file in files for suite in _xml(file).iter("testsuite")]
        total = sum(int(suite.get("tests", 0)) for suite in suites)
        bad = sum(int(suite.get("failures", 0)) + int(suite.get("errors", 0)) for suite in suites)
        step.job.published.tests.append((total, bad))
        step.say(f"{total} tests in {len(files)} files, {bad} failed")
        if bad and _is_true(inputs, "failtaskonfailedtests"):
            raise StepError(f"{bad} tests have failed")

    def _coverage(self, inputs: dict[str, str], step: StepRun) -> None:
        here = Path(step.job.variables.get("System.DefaultWorkingDirectory") or "")
        files = list(_matching(here, inputs["summaryfilelocation"]))
        if not files:
            step.say("no coverage")
            if _is_true(inputs, "failifcoverageempty"):
                raise StepError(f"no coverage found at {inputs['summaryfilelocation']}")
        for file in files:
            root = _xml(file)
            if root.tag != "coverage" or not list(root.iter("class")):
                raise StepError(f"{file} is no Cobertura report of any file")
            step.job.published.coverage.append(float(root.get("line-rate", "nan")))
            step.say(f"lines covered: {root.get('line-rate')}")

    def _azure(self, inputs: dict[str, str], step: StepRun) -> None:
        if inputs.get("scripttype") != "bash" or inputs.get("scriptlocation", "scriptPath") != "inlineScript":
            raise PipelineError("AzureCLI@2: only an inline script of bash is known")
        signed_in = self._connections.sign_in(inputs.get("azuresubscription", ""))
        step.script(inputs["inlinescript"], {"workingDirectory": inputs.get("workingdirectory", "")}, signed_in)

    def _publish(self, inputs: dict[str, str], step: StepRun) -> None:
        name = inputs.get("artifactname") or inputs.get("artifact") or ""
        source = Path(inputs["targetpath"])
        source = (
            source
            if source.is_absolute()
            else Path(step.job.variables.get("System.DefaultWorkingDirectory") or "") / source
        )
        published = step.job.published
        if not source.exists() or (source.is_dir() and not any(source.iterdir())):
            raise StepError(f"there is nothing to publish at {source}")
        if not name or name in published.artifacts:
            raise StepError(f"the artifact {name!r} has no name, or is there already")
        target = published.folder / name
        if source.is_dir():
            shutil.copytree(source, target)
        else:
            target.mkdir(parents=True)
            shutil.copy2(source, target)
        published.artifacts[name] = target

    def _download(self, inputs: dict[str, str], step: StepRun) -> None:
        source = inputs.get("source") or inputs.get("buildtype") or "current"
        if source == "none":
            return
        if source != "current":
            raise PipelineError(f"DownloadPipelineArtifact@2: only artifacts of this run are known, not {source}")
        name = inputs.get("artifactname") or inputs.get("artifact") or ""
        artifacts = step.job.published.artifacts
        if name and name not in artifacts:
            raise StepError(f"the run has no artifact {name!r}")
        workspace = Path(step.job.variables.get("Pipeline.Workspace") or "")
        given = inputs.get("targetpath") or inputs.get("path")
        for artifact, folder in artifacts.items():
            if artifact == name or not name:
                below = given is None or not name
                target = workspace / (given or "") / (artifact if below else "")
                for file in _matching(folder, inputs.get("itempattern", "**")):
                    copy = target / file.relative_to(folder)
                    copy.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy2(file, copy)


def _is_true(inputs: Inputs, name: str) -> bool:
    return inputs.get(name, "false").lower() == "true"


def _matching(folder: Path, pattern: str) -> Iterator[Path]:
    if Path(pattern).is_absolute():
        folder, pattern = Path(pattern).parent, Path(pattern).name
    for path in sorted(folder.rglob("*")) if folder.is_dir() else []:
        name = path.relative_to(folder).as_posix()
        matches = fnmatch.fnmatch(name, pattern) or (pattern.startswith("**/") and fnmatch.fnmatch(name, pattern[3:]))
        if path.is_file() and matches and ("**" in pattern or name.count("/") == pattern.count("/")):
            yield path


def _xml(file: Path) -> Any:
    try:
        return ElementTree.parse(file).getroot()
    except ElementTree.ParseError as error:
        raise StepError(f"{file} is not XML: {error}") from error
