"""A project of Azure DevOps on this machine: pipelines, environments, service connections, variable groups, and runs."""

from __future__ import annotations

import subprocess
import threading
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from testing.support.azure_pipelines.agent_machine import AgentMachine
from testing.support.azure_pipelines.agent_tasks import Tasks
from testing.support.azure_pipelines.devops_service import DevopsService
from testing.support.azure_pipelines.expression_functions import Counters
from testing.support.azure_pipelines.known_names import KnownNames
from testing.support.azure_pipelines.pipeline_errors import PipelineError
from testing.support.azure_pipelines.pipeline_files import PipelineFiles
from testing.support.azure_pipelines.pipeline_model import Pipeline, pipeline_of
from testing.support.azure_pipelines.pipeline_run import Approve, PipelineRun, Surroundings
from testing.support.azure_pipelines.reference_checks import problems
from testing.support.azure_pipelines.template_expansion import expand


@dataclass(frozen=True)
class Connection:
    """A service connection to Azure by workload identity federation: who one becomes by it."""

    name: str
    client_id: str
    tenant_id: str
    id: str = field(default_factory=lambda: str(uuid.uuid4()))


@dataclass(frozen=True)
class Definition:
    """A pipeline of the project, and its file."""

    id: int
    name: str
    path: str


@dataclass
class Organisation:
    """The project.

    Attributes:
        machine: On which jobs run.
        definitions: Its pipelines.
        connections: To Azure.
        groups: Variable groups.
        checks: Approvals, by the name of the environment.
        known: Whatever else may be named.
        name: Of the organisation, and of the project.
    """

    machine: AgentMachine
    definitions: list[Definition]
    connections: list[Connection]
    groups: Mapping[str, Mapping[str, str]]
    checks: Mapping[str, Approve]
    known: KnownNames
    project: str = "vision-mlops"
    branch: str = "refs/heads/main"
    runs: list[PipelineRun] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._files = PipelineFiles(self.machine.sources, dict(self.machine.replaced))
        self._queued: dict[int, list[PipelineRun]] = {}
        self._changed = threading.Condition()
        self._counters = {definition.id: Counters() for definition in self.definitions}
        self._service = DevopsService(self)

    def __enter__(self) -> Organisation:
        self._service.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._service.stop()

    @property
    def service(self) -> DevopsService:
        """Its REST API."""
        return self._service

    def definition(self, name: str) -> Definition:
        """A pipeline by its name."""
        return next(one for one in self.definitions if one.name == name)

    def pipeline(
        self, definition: Definition, parameters: Mapping[str, Any], predefined: Mapping[str, str]
    ) -> Pipeline:
        """A pipeline with its parameters, checked.

        Raises:
            PipelineError: the service would refuse to run it.
        """
        before = {name: value for name, value in predefined.items() if name in _EARLY}
        expanded = expand(self._files, definition.path, parameters, before)
        found = pipeline_of(expanded.tree, definition.path)
        wrong = problems(found, self.known)
        if wrong:
            raise PipelineError("\n".join(wrong))
        return found

    def queue(self, name: str, reason: str = "Manual", **parameters: Any) -> PipelineRun:
        """Queue a run of a pipeline, which :meth:`PipelineRun.execute` then runs."""
        definition = self.definition(name)
        predefined = self._predefined(definition, reason)
        pipeline = self.pipeline(definition, parameters, predefined)
        surroundings = Surroundings(self.groups, self.checks, Tasks(self), self._counters[definition.id])
        with self._changed:
            run = PipelineRun(len(self.runs) + 101, pipeline, predefined, self.machine, surroundings, parameters)
            self.runs.append(run)
            self._queued.setdefault(definition.id, []).append(run)
            self._changed.notify_all()
        return run

    def started_by_rest(self, name: str, seconds: float) -> PipelineRun:
        """The next run of a pipeline that somebody else has queued.

        Raises:
            TimeoutError: nobody has.
        """
        number, end = self.definition(name).id, time.monotonic() + seconds
        with self._changed:
            while True:
                for run in self._queued.get(number, []):
                    if not run.stages and run.predefined["Build.Reason"] != "Manual":
                        self._queued[number].remove(run)
                        return run
                if not self._changed.wait(end - time.monotonic()):
                    raise TimeoutError(f"nobody has started the pipeline {name} in {seconds:.0f} s")

    def sign_in(self, connection: str) -> dict[str, str]:
        """The variables that a task gives to its script.

        Raises:
            PipelineError: the connection is unknown.
        """
        found = next((one for one in self.connections if one.name == connection), None)
        if found is None:
            raise PipelineError(f"the service connection {connection!r} does not exist or has not been authorized")
        return {
            "AZURESUBSCRIPTION_CLIENT_ID": found.client_id,
            "AZURESUBSCRIPTION_TENANT_ID": found.tenant_id,
            "AZURESUBSCRIPTION_SERVICE_CONNECTION_ID": found.id,
        }

    def _predefined(self, definition: Definition, reason: str) -> dict[str, str]:
        commit = subprocess.run(
            ["git", "-C", str(self.machine.sources), "rev-parse", "HEAD"], capture_output=True, text=True, check=True
        ).stdout.strip()
        collection = self._service.collection
        return {
            "Build.Reason": reason,
            "Build.DefinitionName": definition.name,
            "Build.SourceBranch": self.branch,
            "Build.SourceBranchName": self.branch.rpartition("/")[2],
            "Build.SourceVersion": commit,
            "Build.Repository.Name": self.project,
            "Build.BuildNumber": f"20260101.{len(self.runs) + 1}",
            "System.CollectionUri": collection,
            "System.TeamFoundationCollectionUri": collection,
            "System.TeamProject": self.project,
            "System.DefinitionId": str(definition.id),
            "System.OidcRequestUri": f"{collection}{self.project}/_apis/distributedtask/hubs/build/plans/p/jobs/j/oidctoken",
        }


_EARLY = (
    "Build.Reason", "Build.DefinitionName", "Build.SourceBranch", "Build.SourceBranchName", "Build.SourceVersion",
    "Build.Repository.Name", "System.CollectionUri", "System.TeamProject",
)  # fmt: skip
