"""The pipelines themselves, and what each of them may use."""

from __future__ import annotations

from typing import Any, Protocol

from vision_mlops.devops.devops_client import PREVIEW
from vision_mlops.devops.pipeline_files import HOSTED
from vision_mlops.devops.setup.project_parts import NamedPart, RepositoryPart
from vision_mlops.devops.setup.setup_part import EXISTS, SetupFinding, SetupPart, blocked, differing, missing

_YAML_PROCESS = 2
_FROM_YAML = 2


class QueuePart(NamedPart):
    """The queue of an agent pool. Microsoft's comes with the project; others are up to an administrator."""

    kind = "agent pool"
    collection, selector = "distributedtask/queues", "queueNames"

    def _look(self) -> SetupFinding:
        if not self.project.id:
            return missing("comes with the project" if self.name == HOSTED else "is looked up in the project")
        if row := self._row():
            self.id = int(row["id"])
            return EXISTS
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


class Resource(Protocol):
    """What a pipeline may be permitted to use; its ``id`` is empty or 0 if it does not exist yet."""

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
    permission = "permitting a pipeline needs the role Administrator of the resource (its page > Security)"

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
