"""The cloud as its users see it: the services put together, what they hold, and the faults they shall have."""

from __future__ import annotations

import shutil
from pathlib import Path

from starlette.routing import BaseRoute

from azureml_emulator.container_groups.group_routes import ContainerGroups
from azureml_emulator.endpoints.batch_endpoint_routes import BatchEndpointRoutes
from azureml_emulator.endpoints.deployment_containers import DeploymentContainers
from azureml_emulator.endpoints.online_endpoint_routes import OnlineEndpointRoutes
from azureml_emulator.endpoints.script_scoring import DeploymentScorer, ScriptScorer
from azureml_emulator.identity.key_vault import KeyVault
from azureml_emulator.identity.sign_in_routes import SignInRoutes
from azureml_emulator.jobs.emulated_job import EmulatedJob
from azureml_emulator.jobs.emulated_jobs import EmulatedJobs
from azureml_emulator.jobs.job_executor import CommandExecutor, JobExecutor
from azureml_emulator.jobs.mlflow_routes import MlflowRoutes
from azureml_emulator.jobs.run_history_routes import RunHistoryRoutes
from azureml_emulator.jobs.schedule_routes import ScheduleRoutes, fire
from azureml_emulator.process_commands import ProcessCommands
from azureml_emulator.resources.asset_routes import AssetRoutes
from azureml_emulator.resources.region_limits import RegionLimits
from azureml_emulator.resources.registry_routes import RegistryRoutes, registry
from azureml_emulator.resources.rest_resources import RestResource
from azureml_emulator.resources.subscription import Subscription
from azureml_emulator.resources.workspace_routes import WorkspaceRoutes, cluster, datastore, workspace
from azureml_emulator.rest.faults import Faults
from azureml_emulator.rest.request_log import RequestLog, SeenRequest
from azureml_emulator.storage.azurite import Azurite


class EmulatedCloud(Subscription):
    """A subscription with all services that the emulator has.

    Args:
        azurite: The running storage.
        folder: Where jobs are run; emptied by :meth:`reset`.
        executor: Runs jobs; by default the command for jobs.
        commands: What runs jobs and serves containers.
    """

    def __init__(
        self,
        azurite: Azurite,
        folder: Path,
        executor: JobExecutor | None = None,
        commands: ProcessCommands | None = None,
    ) -> None:
        super().__init__(azurite, folder, commands or ProcessCommands())
        self.faults = Faults()
        self.requests = RequestLog()
        self.default_executor = executor or CommandExecutor(self.commands)
        self.executor: JobExecutor = self.default_executor
        self.jobs = EmulatedJobs(self, lambda: self.executor)
        self.scorer: DeploymentScorer = ScriptScorer(self, self.jobs)
        self.servers = DeploymentContainers(self, self.jobs)
        self.groups = ContainerGroups(self)
        self.vault = KeyVault(lambda: self.url)

    def routes(self) -> list[BaseRoute]:
        """All that the cloud answers."""
        return [
            *SignInRoutes(lambda: self.url).routes(),
            *self.operations.routes(),
            *WorkspaceRoutes(self).routes(),
            *AssetRoutes(self, self.jobs).routes(),
            *RegistryRoutes(self, self.jobs).routes(),
            *self.jobs.routes(),
            *RunHistoryRoutes(self, self.jobs).routes(),
            *MlflowRoutes(self, self.jobs).routes(),
            *ScheduleRoutes(self, self.jobs).routes(),
            *OnlineEndpointRoutes(self, self.servers, lambda: self.scorer).routes(),
            *BatchEndpointRoutes(self, self.jobs).routes(),
            *self.groups.routes(),
            *self.vault.routes(),
        ]

    def reset(self) -> None:
        """Stop the jobs and start over with an empty workspace, one cluster, and an empty registry."""
        self.stop()
        for part in (self.groups, self.store, self.faults, self.operations, self.blobs, self.vault, self.requests):
            part.clear()
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self.executor = self.default_executor
        self.scorer = ScriptScorer(self, self.jobs)
        self.limits = RegionLimits()
        self.page_size = 100
        self.operations.polls, self.operations.alone = 1, None
        self.add_workspace(self.workspace)
        self.add_registry(self.registry)
        self.add_compute("cpu-cluster")

    def stop(self) -> None:
        """End all that it runs: jobs, the containers of deployments, and container groups."""
        self.jobs.stop()
        self.servers.stop()
        self.groups.stop()

    def add_workspace(self, name: str) -> RestResource:
        """Make a workspace with its two datastores."""
        made, _ = self.store.put(self.path(name), workspace(self, name))
        for store, default in (("workspaceblobstore", True), ("workspaceartifactstore", False)):
            container = self.blobs.make_container(store.removeprefix("workspace"))
            self.store.put(f"{made.id}/datastores/{store}", datastore(container, default))
        return made

    def add_registry(self, name: str) -> RestResource:
        """Make a registry, with a container of its own for its assets."""
        made, _ = self.store.put(f"{self.scope()}/registries/{name}", registry(name))
        self.containers[f"registries/{name}"] = self.blobs.make_container("registry")
        return made

    def add_compute(self, name: str, workspace: str | None = None, size: str = "Standard_DS3_v2") -> RestResource:
        """Make a cluster."""
        made, _ = self.store.put(f"{self.path(workspace)}/computes/{name}", cluster(size))
        return made

    def fire(self, schedule: str, workspace: str | None = None) -> EmulatedJob:
        """Start the job of a schedule, as the service does when its time has come.

        Raises:
            ServiceRefusalError: 404, there is no such schedule; 409, it is disabled.
        """
        return fire(self.jobs, self.store.get(f"{self.path(workspace)}/schedules/{schedule}"))

    def seen(self, part: str = "", method: str = "") -> list[SeenRequest]:
        """Requests whose path contains a text, oldest first."""
        return self.requests.seen(part, method)
