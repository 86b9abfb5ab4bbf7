"""The pipelines themselves, what each may use, and who may start one."""

from __future__ import annotations

from typing import Any, Protocol

from vision_mlops.devops.devops_client import PREVIEW
from vision_mlops.devops.pipeline_files import HOSTED
from vision_mlops.devops.setup.project_parts import ProjectPart, RepositoryPart
from vision_mlops.devops.setup.setup_part import EXISTS, SetupFinding, SetupPart, blocked, differing, missing

_YAML_PROCESS = 2
_FROM_YAML = 2


class QueuePart(SetupPart):
    """The queue of a pool of agents. That of Microsoft's comes with the project; others are up to an administrator."""

    kind = "agent pool"

    def __init__(self, project: ProjectPart, name: str) -> None:
        super().__init__(name)
        self.project, self.id = project, 0

    def _look(self) -> SetupFinding:
        if not self.project.id:
            return missing("comes with the project" if self.name == HOSTED else "is looked for in the project")
        path = f"{self.project.path}/_apis/distributedtask/queues"
        rows = self.project.client.rows(path, queueNames=self.name)
        if rows:
            self.id = int(rows[0]["id"])
            return EXISTS
        if self.name == HOSTED:
            return blocked(
                "the project has none: Pipelines are turned off", "turn them on in Project settings > Overview"
            )
        return blocked("the project has none of this name", "add it in Project settings > Agent pools")

    def _make(self) -> None:
        """Never called: it is there, or a person makes it."""


class PipelinePart(SetupPart):
    """A pipeline by the path of its YAML. Its ``id`` is known once it exists."""

    kind = "pipeline"
    permission = "creating a pipeline takes the permission Create build pipeline, which Build Administrators have"

    def __init__(self, repository: RepositoryPart, queue: QueuePart, name: str, path: str) -> None:
        super().__init__(name)
        self.repository, self.project, self.id, self._path = repository, repository.project, 0, path
        self._queue = queue
        self._kept: dict[str, Any] = {}

    def _look(self) -> SetupFinding:
        if not (self.project.id and self.repository.id):
            return missing(self._path)
        rows = self.project.client.rows(f"{self.project.path}/_apis/build/definitions", name=self.name)
        named = next((row for row in rows if row["name"].lower() == self.name.lower()), None)
        if named is None:
            return missing(self._path)
        self.id = int(named["id"])
        found = self._kept = self.project.client.get(f"{self.project.path}/_apis/build/definitions/{self.id}")
        process, repository = found.get("process") or {}, found.get("repository") or {}
        if process.get("type") != _YAML_PROCESS:
            return blocked("it is a classic pipeline", "rename or delete it in Pipelines")
        changed = []
        if str(process.get("yamlFilename")).lstrip("/") != self._path:
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
            "process": {"type": _YAML_PROCESS, "yamlFilename": self._path},
            "repository": {
                "id": self.repository.id,
                "name": self.repository.name,
                "type": "TfsGit",
                "defaultBranch": self._branch,
            },
        }
        path = f"{self.project.path}/_apis/build/definitions"
        if self.id:
            self._kept = self.project.client.send("PUT", f"{path}/{self.id}", {**self._kept, **wanted})
            return
        triggers = [{"triggerType": "continuousIntegration", "settingsSourceType": _FROM_YAML}]
        queue = {"name": self._queue.name, "id": self._queue.id}
        made = self.project.client.send("POST", path, {**wanted, "path": "\\", "queue": queue, "triggers": triggers})
        self.id = int(made["id"])

    @property
    def _branch(self) -> str:
        return f"refs/heads/{self.repository.branch}"


class Resource(Protocol):
    """What a pipeline may be permitted to use; its ``id`` is empty or 0 where it does not exist yet."""

    @property
    def id(self) -> str | int:
        """Its id."""

    @property
    def label(self) -> str:
        """Kind and name."""


class PermissionPart(SetupPart):
    """A pipeline may use a resource; other pipelines may not.

    Args:
        pipeline: Who.
        type: Of the resource, as the service calls it, such as ``endpoint``.
        resource: Which.
    """

    kind = "permission"
    permission = "permitting a pipeline takes the role Administrator of the resource (its page > Security)"

    def __init__(self, pipeline: PipelinePart, type: str, resource: Resource) -> None:
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
