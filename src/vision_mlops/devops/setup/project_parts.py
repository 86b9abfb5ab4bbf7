"""The project in Azure DevOps, the repository in it, and the policy that asks for the CI of pull requests."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from vision_mlops.core.errors import AzureError
from vision_mlops.devops.devops_client import DevOpsClient, in_path
from vision_mlops.devops.setup.setup_part import EXISTS, SetupFinding, SetupPart, blocked, differing, missing

_OPERATION_SECONDS = 300.0
_POLL_SECONDS = 2.0
_BUILD_POLICY = "0609b952-1397-4640-95ec-e00a01b2c241"
"""Type of the policy that a build must succeed, in every organization."""


class ProjectPart(SetupPart):
    """The project. Its ``id`` is known once it exists."""

    kind = "project"
    permission = (
        "creating a project takes the permission Create new projects of the organization; or create it by hand, and run"
        " this command again"
    )

    def __init__(self, client: DevOpsClient, name: str, sleep: Callable[[float], None] = time.sleep) -> None:
        super().__init__(name)
        self.client, self.id, self._sleep = client, "", sleep

    @property
    def path(self) -> str:
        """Start of the paths of what is in it."""
        return in_path(self.name)

    def _look(self) -> SetupFinding:
        found = self.client.find(f"_apis/projects/{self.path}", includeCapabilities="true")
        if found is None:
            # An organization that does not exist answers in the same way, but has no list of projects either.
            self.client.rows("_apis/projects", _top="1")
            return missing("private, Git")
        if found.get("state") not in ("wellFormed", None):
            return blocked(f"its state is {found['state']}", "wait some minutes, then run this command again")
        self.id = str(found["id"])
        control = (found.get("capabilities") or {}).get("versioncontrol", {}).get("sourceControlType", "Git")
        if control != "Git":
            return blocked(
                f"it has the version control {control}", "choose another --project: pipelines in YAML need Git"
            )
        return EXISTS

    def _make(self) -> None:
        processes = self.client.rows("_apis/process/processes")
        process = next((item for item in processes if item.get("isDefault")), processes[0])
        body = {
            "name": self.name,
            "description": "Trains, judges and deploys an image classifier.",
            "visibility": "private",
            "capabilities": {
                "versioncontrol": {"sourceControlType": "Git"},
                "processTemplate": {"templateTypeId": process["id"]},
            },
        }
        operation = self.client.send("POST", "_apis/projects", body)
        self._wait(str(operation["id"]))
        found = self.client.get(f"_apis/projects/{self.path}")
        self.id = str(found["id"])

    def _wait(self, operation: str) -> None:
        deadline = time.monotonic() + _OPERATION_SECONDS
        while True:
            found = self.client.get(f"_apis/operations/{operation}")
            status = str(found.get("status"))
            if status == "succeeded":
                return
            if status in ("failed", "cancelled"):
                reason = found.get("detailedMessage") or found.get("resultMessage") or "no reason is given"
                raise AzureError(f"creating the project {status}: {reason}", "see the page of the organization")
            if time.monotonic() > deadline:
                raise AzureError(
                    f"creating the project takes more than {_OPERATION_SECONDS:g} s",
                    "wait, then run this command again",
                )
            self._sleep(_POLL_SECONDS)


class RepositoryPart(SetupPart):
    """The repository. Nothing is pushed to it."""

    kind = "repository"
    permission = (
        "creating a repository takes the permission Create repository (Project settings > Repositories > Security)"
    )

    def __init__(self, project: ProjectPart, name: str, branch: str) -> None:
        super().__init__(name)
        self.project, self.id, self.url, self.branch, self.empty = project, "", "", branch, True

    def _look(self) -> SetupFinding:
        if not self.project.id:
            return missing()
        rows = self.project.client.rows(f"{self.project.path}/_apis/git/repositories")
        found = next((item for item in rows if item["name"].lower() == self.name.lower()), None)
        if found is None:
            return missing()
        if found.get("isDisabled"):
            return blocked("it is disabled", "enable it in Project settings > Repositories")
        self._take(found)
        return EXISTS

    def _make(self) -> None:
        body = {"name": self.name, "project": {"id": self.project.id}}
        self._take(self.project.client.send("POST", f"{self.project.path}/_apis/git/repositories", body))

    def _take(self, found: dict[str, object]) -> None:
        self.id, self.url = str(found["id"]), str(found.get("remoteUrl") or "")
        self.empty = not found.get("defaultBranch")


class NumberedPipeline(Protocol):
    """A pipeline by its id, which is 0 where it does not exist yet."""

    @property
    def id(self) -> int:
        """Its id."""


class BranchPolicyPart(SetupPart):
    """Pull requests to the main branch must pass the CI pipeline: in Azure Repos ``pr`` in the YAML starts nothing."""

    kind = "branch policy"
    permission = "a branch policy takes the permission Edit policies (Project settings > Repositories > Policies)"

    def __init__(self, repository: RepositoryPart, pipeline: str, definition: NumberedPipeline) -> None:
        super().__init__(f"{pipeline} on pull requests to {repository.branch}")
        self._repository, self._pipeline, self._definition = repository, pipeline, definition
        self._configuration = 0

    def _look(self) -> SetupFinding:
        project = self._repository.project
        if not (project.id and self._repository.id and self._definition.id):
            return missing()
        rows = project.client.rows(f"{project.path}/_apis/policy/configurations", policyType=_BUILD_POLICY)
        for item in rows:
            settings = item.get("settings") or {}
            if settings.get("buildDefinitionId") == self._definition.id and any(map(self._covers, settings["scope"])):
                self._configuration = int(item["id"])
                if not (item.get("isEnabled") and item.get("isBlocking")):
                    return differing("it is not enabled, or does not block")
                return EXISTS
        return missing()

    def _make(self) -> None:
        project = self._repository.project
        scope = {
            "repositoryId": self._repository.id,
            "refName": f"refs/heads/{self._repository.branch}",
            "matchKind": "exact",
        }
        body = {
            "isEnabled": True,
            "isBlocking": True,
            "type": {"id": _BUILD_POLICY},
            "settings": {
                "buildDefinitionId": self._definition.id,
                "displayName": self._pipeline,
                "queueOnSourceUpdateOnly": True,
                "manualQueueOnly": False,
                "validDuration": 720.0,
                "scope": [scope],
            },
        }
        path = f"{project.path}/_apis/policy/configurations"
        if self._configuration:
            project.client.send("PUT", f"{path}/{self._configuration}", body)
        else:
            self._configuration = int(project.client.send("POST", path, body)["id"])

    def _covers(self, scope: dict[str, object]) -> bool:
        there, name = str(scope.get("refName") or "refs/heads/"), f"refs/heads/{self._repository.branch}"
        # A scope without a repository holds for all of them.
        here = scope.get("repositoryId") in (None, self._repository.id)
        return here and (name == there or (str(scope.get("matchKind")).lower() == "prefix" and name.startswith(there)))
