"""The pipelines themselves, what each of them may use, and the policy that requires one for pull requests."""

from __future__ import annotations

from typing import Any

from vision_mlops.devops.devops_client import PREVIEW
from vision_mlops.devops.pipeline_files import HOSTED
from vision_mlops.devops.setup.project_parts import NamedPart, RepositoryPart
from vision_mlops.devops.setup.setup_part import EXISTS, SetupFinding, SetupPart, blocked, differing, missing

_YAML_PROCESS = 2
_FROM_YAML = 2
_BUILD_POLICY = "0609b952-1397-4640-95ec-e00a01b2c241"
"""Type of the policy that requires a successful build; the same in every organization."""


class QueuePart(NamedPart):
    """The queue of an agent pool. Microsoft's comes with the project; others are up to an administrator."""

    kind = "agent pool"
    collection, selector = "distributedtask/queues", "queueNames"

    def _absent(self) -> SetupFinding:
        if not self.project.id:
            return missing("comes with the project" if self.name == HOSTED else "is looked up in the project")
        if self.name == HOSTED:
            return blocked(
                "the project has none because Pipelines are turned off", "turn them on in Project settings > Overview"
            )
        return blocked("the project has no pool of this name", "add it in Project settings > Agent pools")


class PipelinePart(NamedPart):
    """A pipeline by the path of its YAML."""

    kind = "pipeline"
    permission = "creating a pipeline needs the permission Create build pipeline, which Build Administrators have"

    collection, selector = "build/definitions", "name"

    def __init__(self, repository: RepositoryPart, queue: QueuePart, name: str, path: str) -> None:
        super().__init__(repository.project, name)
        self.repository, self._file, self._queue = repository, path, queue
        self._kept: dict[str, Any] = {}

    def _look(self) -> SetupFinding:
        named = self._row() if self.repository.id else None
        if named is None:
            return missing(self._file)
        self.id = int(named["id"])
        found = self._kept = self.project.client.get(f"{self._path}/{self.id}")
        process, repository = found.get("process") or {}, found.get("repository") or {}
        if process.get("type") != _YAML_PROCESS:
            return blocked("it is a classic pipeline", "rename or delete it in Pipelines")
        changed = []
        if str(process.get("yamlFilename")).lstrip("/") != self._file:
            changed.append(f"its YAML is {process.get('yamlFilename')}")
        if str(repository.get("id")).lower() != self.repository.id.lower():
            changed.append(f"its repository is {repository.get('name')}")
        if repository.get("defaultBranch") != self._branch:
            changed.append(f"its branch is {repository.get('defaultBranch')}")
        if found.get("queueStatus", "enabled") != "enabled":
            changed.append(f"it is {found['queueStatus']}")
        return differing("; ".join(changed)) if changed else EXISTS

    def _make(self) -> None:
        wanted = {
            "name": self.name,
            "type": "build",
            "queueStatus": "enabled",
            "process": {"type": _YAML_PROCESS, "yamlFilename": self._file},
            "repository": {
                "id": self.repository.id,
                "name": self.repository.name,
                "type": "TfsGit",
                "defaultBranch": self._branch,
            },
        }
        new = {
            "path": "\\",
            "queue": {"name": self._queue.name, "id": self._queue.id},
            "triggers": [{"triggerType": "continuousIntegration", "settingsSourceType": _FROM_YAML}],
        }
        self._kept = self.project.client.save(self._path, self.id, {**(self._kept or new), **wanted})
        self.id = int(self._kept["id"])

    @property
    def _branch(self) -> str:
        return f"refs/heads/{self.repository.branch}"


class PermissionPart(SetupPart):
    """A pipeline may use a resource; other pipelines may not.

    Args:
        pipeline: Who.
        type: Of the resource, as the service calls it, such as ``endpoint``.
        resource: Which.
    """

    kind = "permission"
    permission = "permitting a pipeline needs the role Administrator of the resource (its page > Security)"

    def __init__(self, pipeline: PipelinePart, type: str, resource: NamedPart) -> None:
        super().__init__(f"{pipeline.name}: {resource.label}")
        self._pipeline, self._type, self._resource = pipeline, type, resource

    def _look(self) -> SetupFinding:
        if not (self._pipeline.id and self._resource.id):
            return missing()
        found = self._pipeline.project.client.get(self._path, PREVIEW)
        if (found.get("allPipelines") or {}).get("authorized"):
            return EXISTS
        rows = found.get("pipelines") or []
        authorized = any(row.get("authorized") and int(row["id"]) == self._pipeline.id for row in rows)
        return EXISTS if authorized else missing()

    def _make(self) -> None:
        body = {"pipelines": [{"id": self._pipeline.id, "authorized": True}]}
        self._pipeline.project.client.send("PATCH", self._path, body, PREVIEW)

    @property
    def _path(self) -> str:
        kind, project = f"{self._type}/{self._resource.id}", self._pipeline.project
        return f"{project.path}/_apis/pipelines/pipelinepermissions/{kind}"


class BranchPolicyPart(SetupPart):
    """Pull requests to the main branch must pass the CI pipeline: in Azure Repos, ``pr`` in the YAML starts nothing."""

    kind = "branch policy"
    permission = "a branch policy needs the permission Edit policies (Project settings > Repositories > Policies)"

    def __init__(self, repository: RepositoryPart, pipeline: PipelinePart) -> None:
        super().__init__(f"{pipeline.name} on pull requests to {repository.branch}")
        self._repository, self._pipeline = repository, pipeline
        self._configuration = 0

    def _look(self) -> SetupFinding:
        project = self._repository.project
        if not (project.id and self._repository.id and self._pipeline.id):
            return missing()
        rows = project.client.rows(f"{project.path}/_apis/policy/configurations", policyType=_BUILD_POLICY)
        for item in rows:
            settings = item.get("settings") or {}
            if settings.get("buildDefinitionId") == self._pipeline.id and any(map(self._covers, settings["scope"])):
                self._configuration = int(item["id"])
                if not (item.get("isEnabled") and item.get("isBlocking")):
                    return differing("it is not enabled, or not blocking")
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
                "buildDefinitionId": self._pipeline.id,
                "displayName": self._pipeline.name,
                "queueOnSourceUpdateOnly": True,
                "manualQueueOnly": False,
                "validDuration": 720.0,
                "scope": [scope],
            },
        }
        path = f"{project.path}/_apis/policy/configurations"
        self._configuration = int(project.client.save(path, self._configuration, body)["id"])

    def _covers(self, scope: dict[str, object]) -> bool:
        there, name = str(scope.get("refName") or "refs/heads/"), f"refs/heads/{self._repository.branch}"
        # A scope without a repository applies to all of them.
        here = scope.get("repositoryId") in (None, self._repository.id)
        return here and (name == there or (str(scope.get("matchKind")).lower() == "prefix" and name.startswith(there)))
