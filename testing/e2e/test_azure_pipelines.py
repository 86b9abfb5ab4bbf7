"""The Azure DevOps pipelines as text: their schema, their templates expanded, and whether all that they name exists.

``test_azure_pipelines_run.py`` executes them. What neither can tell is how the service behaves: no organisation was at hand.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import yaml
from testing.support.azure_pipelines.called_commands import called
from testing.support.azure_pipelines.pipeline_files import PipelineFiles
from testing.support.azure_pipelines.pipeline_model import Pipeline, pipeline_of
from testing.support.azure_pipelines.pipeline_problems import expanded, wrong
from testing.support.azure_pipelines.planted_mistakes import MISTAKES
from testing.support.azure_pipelines.project_pipelines import (
    ENVIRONMENTS,
    FOLDER,
    PIPELINES,
    ROOT,
    path_of,
    variables_in,
)
from testing.support.azure_pipelines.script_lines import ScriptLines
from testing.support.azure_pipelines.unread_names import unread
from testing.support.workflow_runs import tool

# Each pipeline with the parameters that make another pipeline of it.
WAYS: dict[str, list[dict[str, Any]]] = {
    "ci": [{}, {"unitTests": "testing/unit/core"}],
    "model_training": [{}, {"workload": "textile", "options": "--set training.epochs=2"}, {"registered": "textile:3"}],
    "model_deployment": [{}, *({"target": target} for target in ("kubernetes-endpoint", "aks"))],
    "docker_image": [{}],
    "flask_app_deployment": [{}, {"environments": ["dev"]}, {"environments": ["prod"]}],
}
ALL = [(name, given) for name, ways in WAYS.items() for given in ways]
FILES = sorted((ROOT / FOLDER).rglob("*.yml"))
COMMAND = r"(?:script: |command: (?:>-\n +)?)((?:make|mlops) [a-z-]+(?: [a-z-]+)?)"
SECRET = r"(?i)(password|secret|accountkey|connectionstring)\s*[:=]\s*['\"]?[A-Za-z0-9+/]{8}"


def named(value: Any) -> str:
    return str(value).replace("/", "-")


def all_wrong(replaced: dict[str, str]) -> list[str]:
    """The same of all pipelines, with files replaced."""
    files, lines = PipelineFiles(ROOT, replaced), ScriptLines(ROOT / "Makefile")
    return list(chain.from_iterable(wrong(files, name, given, lines) for name, given in ALL))


@pytest.fixture(scope="module")
def files() -> PipelineFiles:
    return PipelineFiles(ROOT)


@pytest.fixture(scope="module")
def lines() -> ScriptLines:
    return ScriptLines(ROOT / "Makefile")


def test_every_pipeline_is_here_with_each_value_of_its_parameters(files: PipelineFiles) -> None:
    assert sorted(path.name for path in (ROOT / FOLDER).glob("*.yml")) == sorted(
        f"{name}_pipeline.yml" for name in PIPELINES
    )
    targets = {
        item["name"]: item["values"]
        for item in files.tree(path_of("model_deployment"))["parameters"]
        if "values" in item
    }
    assert targets["target"] == ["managed", "kubernetes-endpoint", "aks"]


@pytest.mark.parametrize(("name", "given"), ALL, ids=named)
def test_all_that_a_pipeline_names_exists(
    files: PipelineFiles, lines: ScriptLines, name: str, given: dict[str, Any]
) -> None:
    assert wrong(files, name, given, lines) == []


@pytest.mark.slow
def test_whatever_is_declared_is_read() -> None:
    assert unread(ROOT / FOLDER, ROOT / "src" / "vision_mlops") == []


def schema_errors(*paths: Path) -> str:
    done = subprocess.run(
        [
            tool("check-jsonschema"), "--regex-variant", "python", "--builtin-schema", "vendor.azure-pipelines",
            "--data-transform", "azure-pipelines", *map(str, paths),
        ],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return "" if done.returncode == 0 else done.stdout + done.stderr


def test_the_files_fit_the_schema_of_azure_pipelines() -> None:
    pipelines = [path for path in FILES if path.parent.name == FOLDER or path.name == "app_stage.yml"]
    assert schema_errors(*pipelines) == ""


@pytest.mark.slow
def test_the_expanded_pipelines_fit_it_too(files: PipelineFiles, tmp_path: Path) -> None:
    """Which finds a template in the wrong place. The schema knows only the first, retired version of one task."""
    written = []
    for number, (name, given) in enumerate(ALL):
        written.append(tmp_path / f"{number}-{name}.yml")
        tree = for_the_schema(expanded(files, name, given).tree)
        written[-1].write_text(yaml.safe_dump(tree, sort_keys=False), encoding="utf-8")
    assert schema_errors(*written) == ""
    broken = written[0].read_text(encoding="utf-8").replace("displayName: Checks", "displayname: Checks")
    written[0].write_text(broken, encoding="utf-8")
    assert "displayname" in schema_errors(written[0])


def for_the_schema(tree: Any) -> Any:
    """The tree as the schema wants it: booleans in inputs, and nothing about where variables are from."""
    if isinstance(tree, list):
        return [for_the_schema(item) for item in tree]
    if not isinstance(tree, dict):
        return tree
    if tree.get("task") == "PublishCodeCoverageResults@2":
        inputs = {"codeCoverageTool": "Cobertura", "summaryFileLocation": tree["inputs"]["summaryFileLocation"]}
        tree = {**tree, "task": "PublishCodeCoverageResults@1", "inputs": inputs}
    if "inputs" in tree:
        values = {name: {"true": True, "false": False}.get(value, value) for name, value in tree["inputs"].items()}
        tree = {**tree, "inputs": values}
    return {name: for_the_schema(value) for name, value in tree.items() if name != "file"}


def test_the_environments_differ_in_values_alone(files: PipelineFiles) -> None:
    """What is tried in dev is what runs in prod: the same variables, other values, and connections without a secret."""
    dev, prod = (variables_in(files, name) for name in ENVIRONMENTS)
    assert dev.keys() == prod.keys()
    assert not set(dev.values()) & set(prod.values())
    for path in FILES:
        assert not re.search(
            r"(?i)(password|secret|accountkey|connectionstring)\s*[:=]\s*['\"]?[A-Za-z0-9+/]{8}", path.read_text()
        )


def jobs(files: PipelineFiles) -> Iterator[tuple[str, Pipeline]]:
    for name, given in ALL:
        yield name, pipeline_of(expanded(files, name, given).tree, path_of(name))


def test_jobs_run_in_the_projects_container_but_where_it_is_built_and_on_other_pythons(files: PipelineFiles) -> None:
    image = variables_in(files, "pipeline_variables")["agentImage"]
    outside = {
        (name, stage.name, job.name)
        for name, pipeline in jobs(files)
        for stage, job in pipeline.jobs()
        if job.container != image
    }
    pythons = {("ci", "__default", f"python_{version}") for version in ("3_12", "3_13")}
    assert outside == {("docker_image", "build", "images"), *pythons}


def test_the_token_of_the_run_goes_only_to_steps_that_sign_in(files: PipelineFiles) -> None:
    given = {
        step.task if step.task == "AzureCLI@2" else step.script.split('"')[0].strip()
        for _, pipeline in jobs(files)
        for _, _, step in pipeline.steps()
        if "System.AccessToken" in " ".join(step.env.values())
    }
    assert given == {"AzureCLI@2", "mlops devops start"}


def test_what_a_deployment_to_prod_waits_for(files: PipelineFiles) -> None:
    """The approval hangs on the environment, so every job with prod's connection must be a deployment to it."""
    prod = variables_in(files, "prod")
    for name, pipeline in jobs(files):
        for _, job, step in pipeline.steps():
            if step.inputs.get("azureSubscription") == prod["serviceConnection"]:
                assert job.environment == prod["environmentName"], f"{name}: {job.name}"


def test_a_web_app_asks_what_is_served_in_its_environment(files: PipelineFiles) -> None:
    served, asked = set(), set()
    for name in ("model_deployment", "flask_app_deployment"):
        for one in called(pipeline_of(expanded(files, name, {}).tree, path_of(name))):
            where = one.job.environment
            if {"mlops deploy", "mlops rollout start"} & set(one.names):
                served.add((where, one.option("--endpoint") or one.subject, one.option("--to") or one.option("--on")))
            elif "mlops app deploy" in one.names:
                asked.add((where, one.option("--endpoint"), one.option("--on")))
    assert asked == served
    assert len(served) == len(ENVIRONMENTS)


def test_no_agent_waits_for_a_training(files: PipelineFiles) -> None:
    scripts = [
        step.script for name, pipeline in jobs(files) for _, _, step in pipeline.steps() if name == "model_training"
    ]
    assert any("pipeline trigger" in script for script in scripts)
    assert not [script for script in scripts if "--wait" in script or "job logs" in script]


def commands() -> list[tuple[str, str]]:
    """Every command in the files, and the file."""
    found = []
    for path in FILES:
        for match in re.finditer(
            r"(?:script: |command: (?:>-\n +)?)((?:make|mlops) [a-z-]+(?: [a-z-]+)?)", path.read_text()
        ):
            found.append((path.relative_to(ROOT).as_posix(), match[1]))
    return found


@pytest.mark.parametrize(("file", "command"), sorted(set(commands())), ids=named)
def test_no_command_can_be_misspelled(file: str, command: str) -> None:
    text = (ROOT / file).read_text(encoding="utf-8")
    assert all_wrong({file: text.replace(command, command[:-1] + "x")})


@pytest.mark.parametrize(("file", "before", "after", "message"), MISTAKES, ids=lambda value: named(value)[:30])
def test_a_mistake_is_found(file: str, before: str, after: str, message: str) -> None:
    path = f"{FOLDER}/{file}" if file.endswith(".yml") else path_of(file)
    text = (ROOT / path).read_text(encoding="utf-8")
    assert before in text
    found = all_wrong({path: text.replace(before, after)})
    assert any(message in problem for problem in found), found


@pytest.mark.slow
def test_what_is_declared_in_vain_is_found(tmp_path: Path) -> None:
    for path in FILES:
        copy = tmp_path / FOLDER / path.relative_to(ROOT / FOLDER)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
    folder = tmp_path / FOLDER
    (folder / "templates" / "spare.yml").write_text("parameters:\n  - name: idle\nsteps: []\n")
    with (folder / "variables" / "dev.yml").open("a") as file:
        file.write("  - name: spare\n    value: x\n")
    assert unread(folder, ROOT / "src" / "vision_mlops") == [
        "variables/dev.yml: nobody reads the variable spare",
        "spare.yml: nobody reads the parameter idle",
        "templates/spare.yml: nobody uses the template",
    ]
