"""The cloud as tests see it: what it holds, the faults it shall have, and who runs its jobs."""

from __future__ import annotations

import os
import shutil
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from testing.fakes.blobs import Blobs
from testing.fakes.calls import Call, Json, RefusalError
from testing.fakes.credential import TENANT
from testing.fakes.faults import Faults
from testing.fakes.operations import Operations
from testing.fakes.store import Resource, Store

if TYPE_CHECKING:
    from testing.fakes.azurite import Azurite
    from testing.fakes.executor import Executor
    from testing.fakes.groups import ContainerGroups
    from testing.fakes.jobs import Jobs
    from testing.fakes.records import JobRecord
    from testing.fakes.scoring import Scorer
    from testing.fakes.vault import Vault

SUBSCRIPTION = "00000000-0000-0000-0000-000000000000"
GROUP = "rg"
LOCATION = "westeurope"
PROVIDER = "providers/Microsoft.MachineLearningServices"
SCOPE = "/subscriptions/{subscription}/resourceGroups/{group}/" + PROVIDER
WORKSPACE = SCOPE + "/workspaces/{workspace}"
AML_RESOURCE = "https://ml.loopback"
_FOREIGN = ("AZURE", "ARM_", "MLFLOW_", "MLOPS_", "REQUESTS_CA_BUNDLE")


@dataclass(frozen=True)
class Seen:
    """One request that came in, and its status; 0 where the connection was broken."""

    method: str
    path: str
    status: int


class Cloud:
    """One subscription with one resource group, workspaces and registries.

    Args:
        azurite: The running storage.
        folder: Where jobs are run; emptied by :meth:`reset`.
        executor: Runs jobs; by default the package's local runner in a process of its own.
    """

    subscription = SUBSCRIPTION
    group = GROUP
    tenant = TENANT
    workspace = "ws"
    registry = "shared"

    def __init__(self, azurite: Azurite, folder: Path, executor: Executor | None = None) -> None:
        from testing.fakes.executor import LocalRunner
        from testing.fakes.groups import ContainerGroups
        from testing.fakes.jobs import Jobs
        from testing.fakes.scoring import ScriptScorer
        from testing.fakes.vault import Vault

        self.url = ""
        self.folder = folder
        self.store = Store()
        self.faults = Faults()
        self.blobs = Blobs(azurite)
        self.operations = Operations(lambda: self.url)
        self.jobs: Jobs = Jobs(self)
        self.vault: Vault = Vault(self)
        self.groups: ContainerGroups = ContainerGroups(self)
        self.containers: dict[str, str] = {}
        self.page_size = 100
        self._default_executor = executor or LocalRunner()
        self.executor: Executor = self._default_executor
        self.scorer: Scorer = ScriptScorer()
        self._lock = threading.Lock()
        self._seen: list[Seen] = []

    def reset(self) -> None:
        """Stop the jobs and start over with an empty workspace, one cluster, and an empty registry."""
        from testing.fakes.scoring import ScriptScorer

        self.jobs.stop()
        for part in (self.groups, self.store, self.faults, self.operations, self.blobs, self.vault):
            part.clear()
        with self._lock:
            self._seen.clear()
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self.executor = self._default_executor
        self.scorer = ScriptScorer()
        self.page_size = 100
        self.operations.polls = 1
        self.add_workspace(self.workspace)
        self.add_registry(self.registry)
        self.add_compute("cpu-cluster")

    def job_environment(self) -> dict[str, str]:
        """Variables of the processes that do the cloud's work: this process's, without what points at any cloud."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}
        folders = [str(Path(sys.executable).parent), kept.get("PATH", "")]
        # Relative folders would mean others in the folder of a job.
        sources = [str(Path(item).resolve()) for item in kept.get("PYTHONPATH", "").split(os.pathsep) if item]
        return {**kept, "PATH": os.pathsep.join(folders), "PYTHONPATH": os.pathsep.join(sources)}

    def scope(self) -> str:
        """Path of what is in the resource group."""
        return SCOPE.format(subscription=self.subscription, group=self.group)

    def path(self, workspace: str | None = None) -> str:
        """Path of a workspace."""
        return f"{self.scope()}/workspaces/{workspace or self.workspace}"

    def add_workspace(self, name: str) -> Resource:
        """Make a workspace with its two datastores."""
        from testing.fakes.workspaces import datastore, workspace

        made, _ = self.store.put(self.path(name), workspace(self, name))
        for store, default in (("workspaceblobstore", True), ("workspaceartifactstore", False)):
            container = self.blobs.make_container(store.removeprefix("workspace"))
            self.store.put(f"{made.id}/datastores/{store}", datastore(container, default))
        return made

    def add_registry(self, name: str) -> Resource:
        """Make a registry, with a container of its own for its assets."""
        from testing.fakes.registries import registry

        made, _ = self.store.put(f"{self.scope()}/registries/{name}", registry(name))
        self.containers[f"registries/{name}"] = self.blobs.make_container("registry")
        return made

    def add_compute(self, name: str, workspace: str | None = None, size: str = "Standard_DS3_v2") -> Resource:
        """Make a cluster."""
        from testing.fakes.workspaces import cluster

        made, _ = self.store.put(f"{self.path(workspace)}/computes/{name}", cluster(size))
        return made

    def container(self, store: str, workspace: str | None = None) -> str:
        """Container of a datastore."""
        found = self.store.get(f"{self.path(workspace)}/datastores/{store}")
        return str(found.properties["containerName"])

    def fire(self, schedule: str, workspace: str | None = None) -> JobRecord:
        """Start the job of a schedule, as the service does when its time has come.

        Raises:
            RefusalError: 404, there is no such schedule; 409, it is disabled.
        """
        from testing.fakes.schedules import fire

        return fire(self, self.store.get(f"{self.path(workspace)}/schedules/{schedule}"))

    def require_workspace(self, call: Call) -> None:
        """Refuse a call whose workspace does not exist."""
        names = call.names
        path = f"/subscriptions/{names['subscription']}/resourceGroups/{names['group']}/{PROVIDER}/workspaces"
        if self.store.find(f"{path}/{names['workspace']}") is None:
            what = f"Microsoft.MachineLearningServices/workspaces/{names['workspace']}"
            message = f"The resource {what!r} under resource group {names['group']!r} was not found."
            raise RefusalError(404, "ResourceNotFound", message)

    def note(self, method: str, path: str, status: int) -> None:
        """Write a request down."""
        with self._lock:
            self._seen.append(Seen(method, path, status))

    def seen(self, part: str = "", method: str = "") -> list[Seen]:
        """Requests whose path contains a text, oldest first."""
        with self._lock:
            return [item for item in self._seen if part in item.path and method in ("", item.method)]

    def page(self, items: list[Resource], call: Call) -> Json:
        """One page of a list, with the link to the next."""
        return self.page_of([item.to_dict() for item in items], call)

    def page_of(self, items: list[Json], call: Call) -> Json:
        """One page of a list of answers, with the link to the next."""
        start, top = int(call.query.get("$skip") or 0), call.query.get("$top")
        limit = min(self.page_size, int(top)) if top else self.page_size
        body: Json = {"value": items[start : start + limit]}
        # With $top the client asked for so many and no more.
        if not top and start + limit < len(items):
            others = "&".join(f"{key}={value}" for key, value in call.query.items() if key != "$skip")
            body["nextLink"] = f"{self.url}{call.path}?{others}&$skip={start + limit}"
        return body
