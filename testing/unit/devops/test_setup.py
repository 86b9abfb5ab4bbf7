"""Settings of environments, roles, and the first push."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from testing.support.azure_devops.service import PAT, running_azure_devops
from testing.support.bicep_files import ROOT, properties, read, text, walk

from vision_mlops.azure.identities import ManagedIdentity
from vision_mlops.cli.main import main
from vision_mlops.core.errors import AzureError, ConfigError
from vision_mlops.devops.devops_client import DevOpsClient, organization_authorization
from vision_mlops.devops.pipeline_files import HOSTED
from vision_mlops.devops.setup.first_push import push, push_commands
from vision_mlops.devops.setup.identity_parts import PIPELINE_ROLES, IdentityPart
from vision_mlops.devops.setup.pipeline_parts import BranchPolicyPart, PipelinePart, QueuePart
from vision_mlops.devops.setup.project_parts import ProjectPart, RepositoryPart
from vision_mlops.devops.setup.setup_part import EXISTS, SetupFinding, SetupPart, blocked, differing, later, missing
from vision_mlops.devops.setup.setup_run import look, make
from vision_mlops.devops.setup.stage_settings import Stage, read_stages

IDS = {"AZURE_SUBSCRIPTION_ID": "00000000-0000-0000-0000-000000000000", "AZURE_RESOURCE_GROUP": "rg"}
FROM_THE_INFRASTRUCTURE_ONLY = {
    "Azure Kubernetes Service Cluster User Role",  # a cluster is made there, and attached by it
    "Azure Kubernetes Service RBAC Writer",
    "Cognitive Services Custom Vision Contributor",
}


def write(folder: Path, **stages: str) -> Path:
    for stage, workspace in stages.items():
        (folder / f".env.{stage}").write_text(f"AZUREML_WORKSPACE_NAME={workspace}\n")
    return folder


def test_a_file_of_an_environment_wins_over_the_process(tmp_path: Path) -> None:
    environ = {**IDS, "AZUREML_WORKSPACE_NAME": "mlw-vision-other", "MLOPS_AZURE_GPU_CLUSTER": "gpu"}
    dev, prod = read_stages(("dev", "prod"), write(tmp_path, dev="mlw-vision-dev", prod="mlw-vision-prod"), environ)
    assert (dev.settings.workspace_name, prod.settings.workspace_name) == ("mlw-vision-dev", "mlw-vision-prod")
    assert (dev.identity, prod.identity) == ("id-vision-dev-pipelines", "id-vision-prod-pipelines")
    assert dev.values["AZURE_RESOURCE_GROUP"] == "rg"
    assert dev.clusters == ("cpu-cluster", "gpu")
    (alone,) = read_stages(("dev",), tmp_path / "elsewhere", {**IDS, "AZUREML_WORKSPACE_NAME": "ws"})
    assert (alone.source, alone.identity) == ("environment", "id-ws-pipelines")


def test_environments_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"\.env\.prod is missing"):
        read_stages(("dev", "prod"), write(tmp_path, dev="one"), IDS)
    with pytest.raises(ConfigError, match="have the same workspace 'one'"):
        read_stages(("dev", "prod"), write(tmp_path, prod="one"), IDS)


def test_roles_are_those_of_the_infrastructure() -> None:
    granted = set()
    for node in walk(read(ROOT / "main.bicep").tree):
        if node.type == "object_property" and text(node.named_children[0]) == "grants":
            roles = properties(node.named_children[-1]).items()
            granted |= {role for role, who in roles if "pipelines" in text(who).replace("pipelinesIdentity", "")}
    assert granted - FROM_THE_INFRASTRUCTURE_ONLY == {role for role, _ in PIPELINE_ROLES}
    assert granted >= FROM_THE_INFRASTRUCTURE_ONLY


class Part(SetupPart):
    """Something to make, which may be interrupted."""

    kind = "thing"

    def __init__(self, name: str, finding: SetupFinding, error: BaseException | None = None) -> None:
        super().__init__(name)
        self.finding, self._error = finding, error
        self.made = 0

    def _look(self) -> SetupFinding:
        return self.finding

    def _make(self) -> None:
        if self._error:
            raise self._error
        self.made += 1


def test_an_interruption_names_what_was_made() -> None:
    told: list[str] = []
    broken = Part("two", missing(), KeyboardInterrupt())
    parts = [Part("there", EXISTS), Part("one", missing()), broken, Part("three", missing())]
    with pytest.raises(KeyboardInterrupt):
        make(look(parts), told.append)
    assert told[:2] == ["created thing one", "created before that: thing one"]
    assert "thing two may have been created or not" in told[2]
    assert [part.made for part in parts] == [0, 1, 0, 0]


def test_what_comes_later_or_brings_itself_is_not_made() -> None:
    parts = [Part("later", later("no cluster", "make one")), Part("changed", differing("its name"))]
    rows = make(look(parts), lambda text: None)
    assert [row.part.name for row in rows] == ["changed"]
    brought = Part("brought", missing())
    rows = look([brought])
    brought.finding = EXISTS  # by what was made before
    assert make(rows, lambda text: None) == []
    brought.finding = blocked("in the way", "remove it")
    with pytest.raises(AzureError, match="thing brought: in the way"):
        make(rows, lambda text: None)


def test_a_project_is_waited_for() -> None:
    waits: list[float] = []
    with running_azure_devops() as service:
        service.organization.polls = 3
        client = DevOpsClient(service.url, organization_authorization({"AZURE_DEVOPS_EXT_PAT": PAT}))
        project = ProjectPart(client, "a b", waits.append)
        assert project.look().standing == "create"
        project.make()
        client.close()
    assert (len(waits), project.id) == (2, next(iter(service.organization.projects)))


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A clone with one commit."""
    git = ["git", "-C", str(tmp_path / "clone"), "-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run(["git", "init", "-q", str(tmp_path / "clone")], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "first"], check=True)
    subprocess.run(["git", "init", "-q", "--bare", str(tmp_path / "server")], check=True)
    return tmp_path


def test_the_first_push(repository: Path) -> None:
    with running_azure_devops() as service:
        client = DevOpsClient(service.url, lambda: "")
        part = RepositoryPart(ProjectPart(client, "vision"), "vision", "main")
        client.close()
    part.url = str(repository / "server")
    push(part, repository / "clone", "Basic secret")
    heads = subprocess.run(
        ["git", "-C", part.url, "branch", "--format=%(refname:short)"], capture_output=True, text=True, check=True
    )
    assert heads.stdout.split() == ["main"]
    part.url = str(repository / "nowhere")
    with pytest.raises(AzureError, match=r"git push to .*nowhere") as caught:
        push(part, repository / "clone", "Basic secret")
    assert caught.value.hint == "; ".join(push_commands(part))
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "--organization is missing"),
        (["--organization", "https://dev.azure.com/contoso"], "--project is missing"),
        (["--github", "contoso", "--environments", "dev"], "'contoso' is not a repository"),
        (["--github", "contoso/vision", "--environments", "dev,dev"], "--environments 'dev,dev'"),
        (
            ["--organization", "contoso", "--project", "p", "--environments", "dev"],
            "not the address of an organization",
        ),
        (["--organization", "https://dev.azure.com/contoso", "--project", "p"], ".env.dev is missing"),
        (["--github", "contoso/vision", "--root", "nowhere"], "no pipelines"),
    ],
)
def test_bad_input_is_one_line(
    words: list[str], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "ado_pipelines").mkdir()
    (tmp_path / "ado_pipelines" / "a_pipeline.yml").write_text("pr: none\n")
    monkeypatch.chdir(tmp_path)
    for name, value in {**IDS, "AZUREML_WORKSPACE_NAME": "ws", "AZURE_DEVOPS_EXT_PAT": "token"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "argv", ["mlops", "devops", "init", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    errors = capsys.readouterr().err
    assert (ended.value.code, told in errors) == (2, True), errors
    assert "Traceback" not in errors


@pytest.mark.parametrize(
    ("at", "holds"),
    [
        ("/subscriptions/s/resourceGroups/rg/providers/P/vaults/one", True),
        ("/subscriptions/s/resourceGroups/rg", True),
        ("/subscriptions/s", True),
        ("/", True),
        ("/subscriptions/s/resourceGroups/rg/providers/P/vaults/other", False),
        ("/subscriptions/s/resourceGroups/rg/providers/P/vaults/one/secrets/a", False),
        ("/subscriptions/s/resourceGroups/r", False),
    ],
)
def test_a_role_holds_at_its_scope_and_below(at: str, holds: bool) -> None:
    asked: list[str] = []

    def held_roles(principal: str, scope: str) -> list[tuple[str, str]]:
        asked.append(scope)
        return [("role-id", at.lower())]

    directory = SimpleNamespace(group="/subscriptions/s/resourceGroups/rg", held_roles=held_roles)
    identity = IdentityPart(cast("Stage", SimpleNamespace(directory=directory)), "id-one")
    scope = "/subscriptions/s/resourceGroups/rg/providers/P/vaults/one"
    assert not identity.holds("role-id", scope)  # nobody has a role before they exist
    identity.found = ManagedIdentity("id", "client", "principal", "tenant")
    assert identity.holds("role-id", scope) is holds
    assert not identity.holds("another", scope)
    assert asked == ["/subscriptions/s/resourceGroups/rg"]
    identity.holds("role-id", "/subscriptions/s/resourceGroups/models/providers/P/registries/one")
    assert asked[1:] == ["/subscriptions/s/resourceGroups/models/providers/P/registries/one"]


@pytest.mark.parametrize(
    ("scope", "enabled", "standing"),
    [
        ({"repositoryId": "REPOSITORY", "refName": "refs/heads/main", "matchKind": "Exact"}, True, "exists"),
        ({"repositoryId": None, "refName": "refs/heads/m", "matchKind": "Prefix"}, True, "exists"),
        ({"repositoryId": None, "refName": None, "matchKind": "Prefix"}, True, "exists"),
        ({"repositoryId": "REPOSITORY", "refName": "refs/heads/main", "matchKind": "Exact"}, False, "differs"),
        ({"repositoryId": "REPOSITORY", "refName": "refs/heads/m", "matchKind": "Exact"}, True, "create"),
        ({"repositoryId": "another", "refName": "refs/heads/main", "matchKind": "Exact"}, True, "create"),
    ],
)
def test_a_branch_policy_covers_the_branch(scope: dict[str, str | None], enabled: bool, standing: str) -> None:
    with running_azure_devops() as service:
        made = service.organization.add_project("vision")
        client = DevOpsClient(service.url, organization_authorization({"AZURE_DEVOPS_EXT_PAT": PAT}))
        repository = RepositoryPart(ProjectPart(client, "vision"), "vision", "main")
        repository.project.look()
        repository.look()
        scope = {key: repository.id if value == "REPOSITORY" else value for key, value in scope.items()}
        settings = {"buildDefinitionId": 7, "scope": [scope]}
        kind = {"id": "0609b952-1397-4640-95ec-e00a01b2c241"}
        made.policies[1] = {"id": 1, "type": kind, "isEnabled": enabled, "isBlocking": True, "settings": settings}
        pipeline = PipelinePart(repository, QueuePart(repository.project, HOSTED), "ci", "ci_pipeline.yml")
        for pipeline.id, expected in ((7, standing), (8, "create")):
            assert BranchPolicyPart(repository, pipeline).look().standing == expected
        client.close()
