"""``mlops devops init`` from nothing to a project whose pipelines find what they refer to, with the services on loopback."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from testing.support.azure_devops.organization import Project
from testing.support.azure_devops.published_facts import problem_with, read_facts, used_fields
from testing.support.azure_devops.service import PAT, AzureDevOps, Fault, Seen, running_azure_devops

from azureml_emulator.emulated_cloud import EmulatedCloud
from azureml_emulator.identity.sign_in_routes import by_secret
from vision_mlops.devops.pipeline_files import read_pipelines

ROOT = Path(__file__).parents[2]
Run = Callable[..., tuple[int, str, str]]
VALUES = {
    "AZUREML_REGISTRY_NAME": "shared",
    "MLOPS_AZURE_CONTAINER_REGISTRY": "crvision.azurecr.io",
    "MLOPS_AZURE_KEY_VAULT": "kv-vision",
}
PIPELINE = """
pr: none
variables:
  - group: vision-dev
  - name: callback
    value: $(System.CollectionUri)$(System.TeamProject)/_apis/pipelines/$(System.DefinitionId)/runs
jobs:
  - deployment: one
    environment: vision-dev
    strategy: {runOnce: {deploy: {steps: [{task: AzureCLI@2, inputs: {azureSubscription: vision-dev}}]}}}
"""
GROUP = "variables: [{name: AZURE_RESOURCE_GROUP, required: true}, {name: AZUREML_WORKSPACE_NAME, required: true}]\n"
UNPUBLISHED = {
    "process.yamlFilename": "processes are published without what a kind of process has; the official tools send it",
    "triggers[].settingsSourceType": "as the process: triggers without what a kind of trigger has",
    "settings.approvers[].id": "the example of a read has no settings; that of a write has this one",
    "settings.executionOrder": "as the approvers",
    "settings.instructions": "as the approvers",
    "settings.minRequiredApprovers": "as the approvers",
    "settings.displayName": "settings of a policy are of any form; the official tools send it",
    "settings.manualQueueOnly": "as the display name",
    "settings.queueOnSourceUpdateOnly": "as the display name",
    "settings.validDuration": "as the display name",
}
"""Fields of requests and responses that neither schema nor example of the published specification has, and why."""


@pytest.fixture
def devops(monkeypatch: pytest.MonkeyPatch) -> Iterator[AzureDevOps]:
    monkeypatch.setenv("AZURE_DEVOPS_EXT_PAT", PAT)
    with running_azure_devops() as service:
        service.organization.polls = 1
        yield service


@pytest.fixture
def azure(cloud: EmulatedCloud, monkeypatch: pytest.MonkeyPatch) -> EmulatedCloud:
    """The emulator with a second workspace, and a cluster whose jobs have an identity."""
    for name, value in {**by_secret(), "AZURE_TOKEN_CREDENTIALS": "EnvironmentCredential"}.items():
        monkeypatch.setenv(name, value)
    cloud.add_workspace("ws-prod")
    cloud.add_compute("cpu-cluster").body["identity"] = {"type": "SystemAssigned"}
    return cloud


@pytest.fixture
def whole(azure: EmulatedCloud, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Our own pipelines, and settings of two environments."""
    shutil.copytree(ROOT / "ado_pipelines", tmp_path / "ado_pipelines")
    for stage, workspace in (("dev", "ws"), ("prod", "ws-prod")):
        lines = [f"{name}={value}\n" for name, value in {**VALUES, "AZUREML_WORKSPACE_NAME": workspace}.items()]
        (tmp_path / f".env.{stage}").write_text("".join(lines))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def small(azure: EmulatedCloud, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """One pipeline and one environment, whose settings are in the environment of the process."""
    folder = tmp_path / "ado_pipelines"
    (folder / "variables").mkdir(parents=True)
    (folder / "train_pipeline.yml").write_text(PIPELINE)
    (folder / "variables" / "group_variables.yml").write_text(GROUP)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def init(devops: AzureDevOps, mlops: Run) -> Run:
    """Run the command for the organization."""

    def call(*words: str) -> tuple[int, str, str]:
        return mlops("devops", "init", "--organization", devops.url, "--project", "vision", *words)

    return call


def only(devops: AzureDevOps) -> Project:
    (found,) = devops.organization.projects.values()
    return found


def azure_writes(cloud: EmulatedCloud) -> list[str]:
    return [
        each.path for method in ("PUT", "PATCH", "POST", "DELETE") for each in cloud.seen("/subscriptions/", method)
    ]


def permitted(project: Project) -> dict[str, set[str]]:
    """Labels of what each pipeline may use."""
    names: dict[str, dict[str, str]] = {
        "endpoint": {key: item["name"] for key, item in project.endpoints.items()},
        "environment": {str(key): item["name"] for key, item in project.environments.items()},
        "variablegroup": {str(key): item["name"] for key, item in project.groups.items()},
    }
    found: dict[str, set[str]] = {item["name"]: set() for item in project.definitions.values()}
    for (kind, id), pipelines in project.permitted.items():
        for number in pipelines:
            found[project.definitions[number]["name"]].add(f"{kind} {names[kind][id]}")
    return found


def unpublished(seen: list[Seen]) -> list[str]:
    """What requests and responses have that the published specification does not."""
    table, problems = read_facts(), set()
    for each in seen:
        assert each.operation is not None
        name = f"{each.operation.method} {each.operation.pattern}"
        facts = table[name]
        assert each.query["api-version"] == each.operation.version == facts["version"], name
        problems |= {f"{name}: {key} is not published" for key in each.query.keys() - {"api-version", *facts["query"]}}
        for what, body in (("request", each.body), ("response", each.answer)) if each.status < 300 else ():
            for path, value in used_fields(body):
                problem = problem_with(path, value, facts[what])
                if problem and path.removeprefix("value[].") not in UNPUBLISHED:
                    problems.add(f"{name}: {what} {path} {problem}")
    return sorted(problems)


@pytest.mark.slow
def test_from_nothing_to_complete_and_then_nothing_to_do(
    init: Run, devops: AzureDevOps, azure: EmulatedCloud, whole: Path
) -> None:
    code, output, errors = init("--yes", "--approver", "ann@contoso.com")
    assert code == 0, errors
    assert "git push azure HEAD:refs/heads/main" in output
    project = only(devops)
    uses = read_pipelines(whole).pipelines
    for use in uses:
        (made,) = [item for item in project.definitions.values() if item["name"] == use.name]
        assert made["process"] == {"type": 2, "yamlFilename": use.path}
        assert made["repository"]["defaultBranch"] == "refs/heads/main"
    expected = {
        use.name: {
            *(f"endpoint {name}" for name in use.connections),
            *(f"environment {name}" for name in use.environments),
            *(f"variablegroup {name}" for name in use.groups),
        }
        for use in uses
    }
    assert permitted(project) == expected
    assert not any("prod" in name for name in expected["ci"] | expected["model_training"])
    # Each connection may act as the identity of its environment, and nobody else may.
    for name, identity in (("vision-dev", "id-ws-pipelines"), ("vision-prod", "id-ws-prod-pipelines")):
        (connection,) = [item for item in project.endpoints.values() if item["name"] == name]
        group = azure.scope().partition("/providers/")[0]
        path = f"{group}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/{identity}"
        client = azure.store.get(path).properties["clientId"]
        assert connection["authorization"]["parameters"]["serviceprincipalid"] == client
        subjects = [item.properties["subject"] for item in azure.store.children(f"{path}/federatedIdentityCredentials")]
        assert f"sc://contoso/vision/{name}" in subjects
        principal = azure.store.get(path).properties["principalId"]
        workspace = azure.path("ws" if name == "vision-dev" else "ws-prod")
        assert azure.roles.allows(principal, "Microsoft.MachineLearningServices/workspaces/jobs/write", workspace)
        assert not azure.roles.allows(principal, "Microsoft.MachineLearningServices/workspaces/write", workspace)
        models = f"{azure.scope()}/registries/shared"
        makes, registry = name == "vision-dev", f"{group}/providers/Microsoft.ContainerRegistry/registries/crvision"
        assert azure.roles.allows(principal, "Microsoft.MachineLearningServices/registries/models/read", models)
        for action, scope in (
            ("Microsoft.MachineLearningServices/registries/models/write", models),
            ("Microsoft.ContainerRegistry/registries/scheduleRun/action", registry),
        ):
            assert azure.roles.allows(principal, action, scope) is makes
        imports = azure.roles.allows(principal, "Microsoft.ContainerRegistry/registries/importImage/action", registry)
        assert imports is not makes
        assert not azure.roles.allows(principal, "Microsoft.Authorization/roleAssignments/write", workspace)
    environments = {item["id"]: item["name"] for item in project.environments.values()}
    checks = {(environments[int(item["resource"]["id"])], item["type"]["name"]) for item in project.checks.values()}
    assert checks == {("vision-dev", "ExclusiveLock"), ("vision-prod", "ExclusiveLock"), ("vision-prod", "Approval")}
    groups = {item["name"]: item["variables"]["AZUREML_WORKSPACE_NAME"]["value"] for item in project.groups.values()}
    assert groups == {"vision-dev": "ws", "vision-prod": "ws-prod"}
    (policy,) = project.policies.values()
    assert project.definitions[policy["settings"]["buildDefinitionId"]]["name"] == "ci"
    numbers = {item["name"]: item["id"] for item in project.definitions.values()}
    started = {token.rpartition("/")[2]: descriptor for token, descriptor in devops.organization.entries}
    assert set(started) == {str(numbers["model_training"]), str(numbers["model_deployment"])}
    assert ":Build:" in started[str(numbers["model_deployment"])]
    assert "ServicePrincipal" in started[str(numbers["model_training"])]

    assert unpublished(devops.seen) == []
    devops.seen.clear()
    azure.requests.clear()
    code, output, errors = init("--approver", "ann@contoso.com")
    assert (code, "nothing to do" in errors) == (0, True)
    assert (devops.writes(), azure_writes(azure)) == ([], [])
    assert init("--check")[0] == 0


@pytest.mark.slow
def test_a_dry_run_and_a_check_write_nothing(init: Run, devops: AzureDevOps, azure: EmulatedCloud, whole: Path) -> None:
    code, output, errors = init("--dry-run", "--approver", "ann@contoso.com")
    assert (code, "nothing was" in errors) == (0, True)
    code, output, errors = init("--check", "--json", "--approver", "ann@contoso.com")
    assert code == 1
    rows = json.loads(output)
    assert {row["state"] for row in rows} == {"create", "exists"}
    assert "without --check" in errors
    assert init("--approver", "ann@contoso.com")[0] == 2  # nobody is there to confirm
    assert (devops.writes(), azure_writes(azure)) == ([], [])


def test_what_is_missing_or_differs_is_made_and_the_rest_is_left(
    init: Run, devops: AzureDevOps, azure: EmulatedCloud, small: Path
) -> None:
    one = ("--yes", "--environments", "dev")
    devops.organization.entra_issuer = True
    assert init(*one)[0] == 0
    project = only(devops)
    (connection,) = project.endpoints.values()
    issuer = connection["authorization"]["parameters"]["workloadIdentityFederationIssuer"]
    assert issuer.startswith("https://login.microsoftonline.com/")
    (group,) = project.groups.values()
    group["variables"] |= {"AZURE_RESOURCE_GROUP": {"value": "old"}, "TOKEN": {"value": "mine", "isSecret": True}}
    (pipeline,) = project.definitions.values()
    pipeline["process"]["yamlFilename"] = "elsewhere.yml"
    project.checks.clear()
    project.permitted.clear()
    (federation,) = [item for item in azure.store.below("/subscriptions") if "federatedIdentity" in item.id]
    azure.store.delete(federation.id)
    code, output, _ = init("--check", "--environments", "dev")
    assert (code, "elsewhere.yml" in output, "AZURE_RESOURCE_GROUP" in output) == (1, True, True)
    devops.seen.clear()
    assert init(*one)[0] == 0
    start = "vision/_apis/pipelines"
    assert devops.writes() == [
        f"POST {start}/checks/configurations",
        f"PUT _apis/distributedtask/variablegroups/{group['id']}",
        f"PUT vision/_apis/build/definitions/{pipeline['id']}",
        f"PATCH {start}/pipelinepermissions/endpoint/{connection['id']}",
        f"PATCH {start}/pipelinepermissions/environment/{next(iter(project.environments))}",
        f"PATCH {start}/pipelinepermissions/variablegroup/{group['id']}",
    ]
    assert unpublished(devops.seen) == []
    kept = project.groups[group["id"]]["variables"]
    assert (kept["AZURE_RESOURCE_GROUP"]["value"], kept["TOKEN"]["value"]) == ("rg", "mine")
    assert azure.store.find(federation.id) is not None


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Fault("POST _apis/serviceendpoint/endpoints", 403), ("service connection vision-dev", "role Creator")),
        (Fault("POST .*/environments", -1), ("environment vision-dev", "connection to Azure DevOps at ")),
        (Fault("POST _apis/serviceendpoint/endpoints", 0), ("service connection vision-dev", "was lost")),
        (Fault("PATCH .*", 400, after=1), ("permission train: environment vision-dev", "HTTP 400")),
    ],
)
def test_a_fault_in_the_middle_is_named_and_the_next_run_goes_on(
    init: Run, devops: AzureDevOps, azure: EmulatedCloud, small: Path, fault: Fault, words: tuple[str, ...]
) -> None:
    devops.faults.append(fault)
    code, _, errors = init("--yes", "--environments", "dev")
    assert code == 2
    for word in (*words, "created before that: project vision, ", "run the same command again"):
        assert word in errors
    code, _, errors = init("--yes", "--environments", "dev")
    assert code == 0, errors
    project = only(devops)
    assert [len(kind) for kind in (project.endpoints, project.environments, project.groups, project.definitions)] == [
        1
    ] * 4
    assert len(project.permitted) == 3


def test_roles_that_azure_does_not_let_us_assign_are_named(
    init: Run, devops: AzureDevOps, azure: EmulatedCloud, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in by_secret("Contributor").items():
        monkeypatch.setenv(name, value)
    code, _, errors = init("--yes", "--environments", "dev")
    assert code == 2
    assert "role AzureML Data Scientist on ws of id-ws-pipelines" in errors
    assert "Role Based Access Control Administrator" in errors
    assert "created before that: project vision, identity id-ws-pipelines" in errors


def test_who_signs_in_and_where(
    mlops: Run, init: Run, devops: AzureDevOps, azure: EmulatedCloud, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("--environments", "dev", "--dry-run")
    code, _, errors = mlops("devops", "init", "--organization", f"{devops.url}-else", "--project", "vision", *words)
    assert (code, "is not an organization" in errors) == (2, True)
    monkeypatch.setenv("AZURE_DEVOPS_EXT_PAT", "wrong")
    code, _, errors = init(*words)
    assert (code, "does not accept this sign-in" in errors) == (2, True)
    monkeypatch.delenv("AZURE_DEVOPS_EXT_PAT")  # so with the identity that is signed in to Azure
    devops.faults.append(Fault("GET .*", 429, times=2, headers={"Retry-After": "0"}))
    code, _, errors = init(*words)
    assert (code, "busy (HTTP 429); trying again" in errors) == (0, True)
    assert (devops.writes(), azure_writes(azure)) == ([], [])


def test_a_project_that_cannot_be_made_and_the_first_push(
    init: Run, devops: AzureDevOps, azure: EmulatedCloud, small: Path
) -> None:
    git = ["git", "-C", str(small), "-c", "user.name=a", "-c", "user.email=a@b"]
    for words in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "first"], ["init", "-q", "--bare", "server"]):
        subprocess.run([*git, *words], check=True)
    devops.organization.remote, devops.organization.fails = str(small / "server"), "the policy forbids it"
    code, _, errors = init("--yes", "--environments", "dev", "--push")
    assert (code, "creating the project failed: the policy forbids it" in errors) == (2, True)
    assert "created before that: nothing" in errors
    devops.organization.fails = ""
    devops.lacks.add("Create new projects")
    code, _, errors = init("--yes", "--environments", "dev", "--push")
    assert (code, "needs the permission Create new projects" in errors) == (2, True)
    devops.lacks.clear()
    code, output, errors = init("--yes", "--environments", "dev", "--push")
    assert (code, f"pushed to {small / 'server'}" in errors, output.count("git push")) == (0, True, 0)
    heads = subprocess.run(["git", "-C", str(small / "server"), "branch"], capture_output=True, text=True, check=True)
    assert heads.stdout.split() == ["main"]


@pytest.mark.slow
def test_what_only_a_person_can_change_stops_before_anything_is_made(
    init: Run, devops: AzureDevOps, azure: EmulatedCloud, small: Path
) -> None:
    assert init("--yes", "--environments", "dev")[0] == 0
    project = only(devops)
    (connection,) = project.endpoints.values()
    project.checks.clear()
    cases: dict[str, dict[str, Any]] = {
        "which needs a secret": {"authorization": {"scheme": "ServicePrincipal"}},
        "acts as the client": {"authorization": {"scheme": "WorkloadIdentityFederation", "parameters": {
            "serviceprincipalid": "a", "workloadIdentityFederationIssuer": "b", "workloadIdentityFederationSubject": "c"}}},
        "for the subscription": {"data": {"subscriptionId": "another"}},
        "its type is generic": {"type": "generic"},
    }  # fmt: skip
    for words, change in cases.items():
        kept = dict(connection)
        connection.update(change)
        devops.seen.clear()
        code, _, errors = init("--yes", "--environments", "dev")
        assert (code, words in errors, devops.writes()) == (1, True, [])
        connection.clear()
        connection.update(kept)
    connection["hidden"] = True  # to who signs in here
    code, _, errors = init("--yes", "--environments", "dev")
    assert (code, "may not see it" in errors) == (2, True)
    del connection["hidden"]
    project.queues.clear()
    code, _, errors = init("--yes", "--environments", "dev")
    assert (code, "Pipelines are turned off" in errors) == (1, True)


@pytest.mark.slow
def test_approvers_are_people_of_the_organization(
    init: Run, devops: AzureDevOps, azure: EmulatedCloud, whole: Path
) -> None:
    devops.organization.add_person("Release managers", "")
    devops.organization.add_person("Release managers", "", "another", "other")
    for given, words in (
        ((), "give --approver"),
        (("--approver", "bob@contoso.com"), "nobody in the organization is called 'bob@contoso.com'"),
        (("--approver", "Release managers"), "may be Release managers, Release managers"),
    ):
        code, _, errors = init("--yes", *given)
        assert (code, words in errors) == (1, True), errors
    assert devops.writes() == []


def test_a_cluster_without_identity_comes_later(
    init: Run, devops: AzureDevOps, azure: EmulatedCloud, small: Path
) -> None:
    del azure.store.get(f"{azure.path()}/computes/cpu-cluster").body["identity"]
    code, _, errors = init("--yes", "--environments", "dev")
    assert (code, "no identity to start a pipeline with" in errors) == (0, True)
    assert init("--check", "--environments", "dev")[0] == 1
    azure.store.get(f"{azure.path()}/computes/cpu-cluster").body["identity"] = {"type": "SystemAssigned"}
    assert init("--yes", "--environments", "dev")[0] == 0
    assert len(devops.organization.principals) == 1
    assert init("--check", "--environments", "dev")[0] == 0


def test_workflows_of_github_act_as_the_identity(mlops: Run, azure: EmulatedCloud, small: Path) -> None:
    workflows = small / ".github" / "workflows"
    workflows.mkdir(parents=True)
    (workflows / "go.yml").write_text("jobs: {a: {environment: {name: x-prod}}, b: {environment: vision-dev}, c: {}}\n")
    (small / "ado_pipelines" / "variables" / "prod.yml").write_text("variables: {environmentName: x-prod}\n")
    words = ("--github", "contoso/vision", "--environments", "dev")
    code, output, errors = mlops("devops", "init", *words, "--yes")
    assert code == 0, errors
    (federation,) = [item for item in azure.store.below("/subscriptions") if "federatedIdentity" in item.id]
    assert federation.properties["subject"] == "repo:contoso/vision:environment:vision-dev"
    client = azure.store.get(federation.id.partition("/federated")[0]).properties["clientId"]
    assert f"gh variable set AZURE_CLIENT_ID --repo contoso/vision --env vision-dev --body {client}" in output
    assert "gh variable set AZUREML_WORKSPACE_NAME --repo contoso/vision --env vision-dev --body ws" in output
    azure.requests.clear()
    assert mlops("devops", "init", *words)[0] == 0
    assert azure_writes(azure) == []
