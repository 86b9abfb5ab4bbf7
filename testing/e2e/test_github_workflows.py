"""The workflows of GitHub: two checkers find nothing, they do what the pipelines of Azure DevOps do, and they really run."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import yaml
from testing.support.azure_pipelines.agent_az import write_az
from testing.support.emulator_process import emulator
from testing.support.jobs import until
from testing.support.quick_training import QUICK, write_colours
from testing.support.run_services import run_services
from testing.support.web_server import Page, Site, serving
from testing.support.workflow_runs import ROOT, WORKFLOWS, WorkflowMachine, tool

from azureml_emulator.identity.loopback_tokens import token
from azureml_emulator.identity.role_definitions import ROLES
from azureml_emulator.identity.sign_in_routes import COMPUTE, object_id

TWINS = {
    "ci": "ci",
    "docker_image": "docker_image",
    "flask_app_deployment": "flask_app_deployment",
    "model_deployment": "model_deployment",
    "model_training": "model_training",
}
"""Name of the workflow, and of the pipeline that it is the twin of."""
_OWN = {"--azure-devops", "--github", "--token-secret", "PYTHON_VERSION=", "RESULTS="}
_ELSEWHERE = {"make github-sign-in", "make test-summary", "mlops devops start"}
"""What only one of the two needs: an act of its own, or a step that is a task there."""


def _scripts(value: Any) -> Iterator[str]:
    """The scripts anywhere in a definition."""
    if isinstance(value, dict):
        for key, item in value.items():
            if key in ("script", "command", "run") and isinstance(item, str):
                yield item
            else:
                yield from _scripts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _scripts(item)


def _load(file: Path) -> Any:
    return yaml.load(file.read_text(encoding="utf-8"), yaml.BaseLoader)


def _commands(*files: Path) -> set[tuple[str, frozenset[str]]]:
    """Commands and targets with their options and variables, whatever their values are."""
    found = set()
    for file in files:
        for script in _scripts(_load(file)):
            for line in re.split(r"\n|&&", script):
                words = re.sub(r"\$\([^)]*\)|\$\{\{.*?\}\}", "X", line).split()
                if not words or words[0] not in ("mlops", "make"):
                    continue
                if words[0] == "make":
                    given = frozenset(re.findall(r"(?<!\S)[A-Z_]+=", " ".join(words))) - _OWN
                    found |= {(f"make {word}", given) for word in words[1:] if re.fullmatch(r"[a-z][a-z-]*", word)}
                else:
                    name = " ".join(re.findall(r"(?:^| )([a-z-]+)(?= |$)", " ".join(words[1:4])))
                    known = {"mlops deploy": 1}.get(f"mlops {words[1]}", 2)
                    command = " ".join(name.split()[:known])
                    options = frozenset(word for word in words if word.startswith("-") and word not in _OWN)
                    found.add((f"mlops {command}", options))
    return {(name, options) for name, options in found if name not in _ELSEWHERE}


@pytest.mark.parametrize("workflow", sorted(TWINS))
def test_a_workflow_calls_what_its_twin_calls(workflow: str) -> None:
    pipelines = ROOT / "ado_pipelines"
    templates = [pipelines / "templates" / "project_steps.yml"]
    templates += [pipelines / "templates" / "app_stage.yml"] if workflow == "flask_app_deployment" else []
    there = _commands(pipelines / f"{TWINS[workflow]}_pipeline.yml", *templates)
    here = _commands(WORKFLOWS / f"{workflow}.yml")
    if workflow == "docker_image":  # neither needs the packages of the project; there the import runs in its container
        there = {each for each in there if each[0] not in ("make setup", "make agent-path")}
    assert here == there
    assert len(here) >= 5


def test_each_twin_is_there() -> None:
    assert {file.stem for file in WORKFLOWS.glob("*.yml")} == set(TWINS)
    pipelines = {file.stem.removesuffix("_pipeline") for file in (ROOT / "ado_pipelines").glob("*_pipeline.yml")}
    assert pipelines == set(TWINS.values())


def test_checkers_find_nothing() -> None:
    # actionlint has shellcheck look at the scripts where it finds it.
    path = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    for words in ([tool("actionlint")], [tool("zizmor"), "--offline", "--quiet", str(WORKFLOWS)]):
        done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, env=path, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_no_action_but_the_checkout_and_the_least_permissions() -> None:
    for file in WORKFLOWS.glob("*.yml"):
        workflow = _load(file)
        assert workflow["permissions"] == {}, file.name
        assert workflow["concurrency"]["group"], file.name
        for name, job in workflow["jobs"].items():
            granted = set(job["permissions"].items())
            signs_in = {("contents", "read"), ("id-token", "write")}
            assert granted <= signs_in, (file.name, name)
            assert ("id-token", "write") not in granted or "environment" in job or "uses" in job, (file.name, name)
            for step in job.get("steps", []):
                assert "run" in step or re.fullmatch(r"actions/checkout@[0-9a-f]{40}", step["uses"]), (file.name, name)
    assert "secrets." not in "".join(file.read_text() for file in WORKFLOWS.glob("*.yml"))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_ci_runs_and_a_test_that_fails_ends_it(tmp_path: Path) -> None:
    machine = WorkflowMachine(tmp_path / "machine")
    chosen = ("--input", "integration_tests=testing/emulator/test_import_graph.py")
    code, printed = machine.run("ci.yml", "workflow_dispatch", "-j", "tests", "--input",
                                "unit_tests=testing/unit/core/test_text.py", *chosen)  # fmt: skip
    assert code == 0, printed
    passed = dict(re.findall(r"\| (unit|integration) \| (\d+) \| 0 \| 0 \|", printed))
    assert set(passed) == {"unit", "integration"}, printed
    assert min(map(int, passed.values())) > 3
    assert re.search(r"Coverage: [\d.]+% of the lines", printed)
    code, printed = machine.run("ci.yml", "workflow_dispatch", "-j", "tests", "--input",
                                "unit_tests=testing/unit/core/no_such_test.py", *chosen)  # fmt: skip
    assert code != 0
    assert "Failure - Main Unit tests" in printed
    assert "Main Integration tests" not in printed
    assert "Success - Main Show results and coverage" in printed


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_training_ends_in_a_deployment_without_anybody_waiting(tmp_path: Path) -> None:
    images = write_colours(tmp_path / "colours")
    quick = " ".join(f"--set {change}" for change in (*QUICK, "name=colours"))
    site = Site()
    answer = Page(json.dumps({"value": token("api://AzureADTokenExchange")}).encode())
    for query in ("run=1&audience=api://AzureADTokenExchange", "audience=api://AzureADTokenExchange&run=1"):
        site.pages[f"/id?{query}"] = answer
    with emulator(tmp_path / "state") as cloud, run_services() as github, serving(site) as identity:
        names = ("AZURE_SUBSCRIPTION_ID", "AZURE_RESOURCE_GROUP", "AZUREML_WORKSPACE_NAME", "AZUREML_REGISTRY_NAME")
        hidden = ("AZURE_CLIENT_SECRET", "AZURE_TOKEN_CREDENTIALS", *names)
        variables = {name: cloud.variables[name] for name in names}
        variables |= {
            "MLOPS_GITHUB_TOKEN_SECRET": "https://emulator.vault.azure.net/secrets/github-token",
            "MLOPS_AZURE_KEY_VAULT": "emulator",
            "MLOPS_AZURE_PULL_IDENTITY": f"/subscriptions/{variables['AZURE_SUBSCRIPTION_ID']}/resourceGroups/rg/providers"
            "/Microsoft.ManagedIdentity/userAssignedIdentities/id-pull",
            "MLOPS_AZURE_CONTAINER_REGISTRY": "crvision.azurecr.io",
            "MLOPS_AZURE_INFERENCING_IMAGE": "crvision.azurecr.io/mlops-inferencing:1",
        }
        write_az(tmp_path / "bin", cloud.state.work / "images", tmp_path / "az.log")
        environment = {name: value for name, value in cloud.variables.items() if name not in hidden}
        environment |= {
            "ACTIONS_ID_TOKEN_REQUEST_URL": f"{identity.address}/id?run=1",
            "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "of this job",
            "GITHUB_API_URL": github.url,
            "GITHUB_REPOSITORY": "owner/name",
            "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
        }
        store = cloud.session()
        kept = store.put(
            "https://emulator.vault.azure.net/secrets/github-token?api-version=7.4",
            json={"value": github.token},
            headers={"Authorization": f"Bearer {cloud.token('https://vault.azure.net')}"},
            timeout=60,
        )
        assert kept.ok, kept.text
        reader = next(role.id for role in ROLES if role.name == "Key Vault Secrets User")
        group = (
            f"/subscriptions/{variables['AZURE_SUBSCRIPTION_ID']}/resourceGroups/{variables['AZURE_RESOURCE_GROUP']}"
        )
        granted = cloud.call(
            "PUT",
            f"{group}/providers/Microsoft.Authorization/roleAssignments/{uuid4()}",
            {"properties": {"roleDefinitionId": f"{group}/x/{reader}", "principalId": object_id(COMPUTE)}},
        )
        assert granted.status_code == 201, granted.text
        words = [
            sys.executable,
            "-m",
            "vision_mlops",
            "data",
            "register",
            str(images),
            "--name",
            "colours",
            "--on",
            "azure",
        ]
        registered = subprocess.run(
            words, env=cloud.environment, cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert registered.returncode == 0, registered.stderr
        machine = WorkflowMachine(tmp_path / "machine", variables, environment)
        code, printed = machine.run("model_training.yml", "workflow_dispatch", "-j", "train",
                                    "--input", f"options={quick} --images azureml:colours:1")  # fmt: skip
        assert code == 0, printed
        assert not github.started, "the workflow has ended, the training has not"
        until(lambda: github.started, 300)
        (event,) = github.started
        assert event == {"event_type": "model-registered", "client_payload": {"registered": "colours:1"}}
        payload = {"action": event["event_type"], "client_payload": event["client_payload"]}
        code, printed = machine.run("model_training.yml", "repository_dispatch", payload=payload, seconds=900)
        assert code == 0, printed
        assert "## colours:1: promote" in printed
        assert "of this job" not in printed
        calls = (tmp_path / "az.log").read_text().splitlines()
        assert [line.split(" -")[0] for line in calls] == ["login", "account set", "acr repository show", "acr build"]
        served = cloud.call("GET", "onlineEndpoints/vision-serving?api-version=2024-04-01").json()
        assert served["properties"]["traffic"] == {"version-1": 100}
        # The same event again finds everything in place: the image, the container, the version in prod, and its traffic.
        code, printed = machine.run(
            "model_deployment.yml", "workflow_dispatch", "--input", "model=colours:1", seconds=900
        )
        assert code == 0, printed
        assert "colours:1 has all traffic of vision-serving already: nothing to do" in printed
        assert sum(line.startswith("acr build") for line in (tmp_path / "az.log").read_text().splitlines()) == 1
