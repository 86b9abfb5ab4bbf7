"""The project in Azure DevOps, and the repository in it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from vision_mlops.core.errors import AzureError
from vision_mlops.devops.devops_client import DevOpsClient, Json, in_path
from vision_mlops.devops.setup.setup_part import EXISTS, SetupFinding, SetupPart, blocked, missing

_OPERATION_SECONDS = 300.0
_POLL_SECONDS = 2.0


class ProjectPart(SetupPart):
    """The project. Its ``id`` is known once it exists."""

    kind = "project"
    permission = (
        "creating a project needs the permission Create new projects of the organization; or create it by hand, and run"
        " this command again"
    )

    def __init__(self, client: DevOpsClient, name: str, sleep: Callable[[float], None] = time.sleep) -> None:
        super().__init__(name)
        self.client, self.id, self._sleep = client, "", sleep

    @property
    def path(self) -> str:
        """Prefix of the paths of everything in it."""
        return in_path(self.name)

    def _look(self) -> SetupFinding:
        found = self.client.find(f"_apis/projects/{self.path}", includeCapabilities="true")
        if found is None:
            # An organization that does not exist responds in the same way, but has no list of projects either.
            self.client.rows("_apis/projects", _top="1")
            return missing("private, Git")
        if found.get("state") not in ("wellFormed", None):
            return blocked(f"its state is {found['state']}", "wait some minutes, then run this command again")
        self.id = str(found["id"])
        control = (found.get("capabilities") or {}).get("versioncontrol", {}).get("sourceControlType", "Git")
        if control != "Git":
            return blocked(f"its version control is {control}", "choose another --project: pipelines in YAML need Git")
        return EXISTS

    def _make(self) -> None:
        processes = self.client.rows("_apis/process/processes")
        process = next((item for item in processes if item.get("isDefault")), processes[0])
        body = {
            "name": self.name,
            "description": "Trains, evaluates and deploys an image classifier.",
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
                reason = found.get("detailedMessage") or found.get("resultMessage") or "no reason given"
                raise AzureError(f"creating the project {status}: {reason}", "see the page of the organization")
            if time.monotonic() > deadline:
                raise AzureError(
                    f"the project was not created within {_OPERATION_SECONDS:g} s",
                    "wait, then run this command again",
                )
            self._sleep(_POLL_SECONDS)


class NamedPart(SetupPart):
    """Something in a project that is found by its name. Its ``id`` is known once it exists."""

    collection = ""
    """Path of the list of its kind, in the project."""
    selector = ""
    """Parameter of the list that selects a name, if it has one."""

    def __init__(self, project: ProjectPart, name: str) -> None:
        super().__init__(name)
        self.project = project
        self.id: Any = ""

    def _look(self) -> SetupFinding:
        row = self._row()
        if row is None:
            return self._absent()
        self.id = row["id"]
        return EXISTS

    def _absent(self) -> SetupFinding:
        """Return what to say of it where it does not exist."""
        return missing()

    @property
    def _path(self) -> str:
        return f"{self.project.path}/_apis/{self.collection}"

    def _row(self, **query: str) -> Json | None:
        """Find its row in the list; None if it or the project does not exist."""
        if not self.project.id:
            return None
        chosen = {self.selector: self.name} if self.selector else {}
        rows = self.project.client.rows(self._path, **chosen, **query)
        return next((row for row in rows if row["name"].lower() == self.name.lower()), None)


class RepositoryPart(NamedPart):
    """The repository. Nothing is pushed to it."""

    kind = "repository"
    permission = (
        "creating a repository needs the permission Create repository (Project settings > Repositories > Security)"
    )
    collection = "git/repositories"

    def __init__(self, project: ProjectPart, name: str, branch: str) -> None:
        super().__init__(project, name)
        self.url, self.branch, self.empty = "", branch, True

    def _look(self) -> SetupFinding:
        found = self._row()
        if found is None:
            return missing()
        if found.get("isDisabled"):
            return blocked("it is disabled", "enable it in Project settings > Repositories")
        self._take(found)
        return EXISTS

    def _make(self) -> None:
        body = {"name": self.name, "project": {"id": self.project.id}}
        self._take(self.project.client.send("POST", self._path, body))

    def _take(self, found: dict[str, object]) -> None:
        self.id, self.url = str(found["id"]), str(found.get("remoteUrl") or "")
        self.empty = not found.get("defaultBranch")
