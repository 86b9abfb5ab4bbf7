"""The cloud as its users see it: the services put together, their state, and planned faults."""

from __future__ import annotations

import shutil
import threading
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from starlette.applications import Starlette
from starlette.routing import BaseRoute

from azureml_emulator.app_service.web_app_routes import AppService
from azureml_emulator.certificates import Certificates
from azureml_emulator.computes.compute_descriptions import cluster
from azureml_emulator.computes.compute_routes import Computes
from azureml_emulator.container_groups.group_routes import ContainerGroups
from azureml_emulator.container_registry.registry_sign_in import registry_sign_in
from azureml_emulator.custom_vision.custom_vision import EmulatedVision
from azureml_emulator.endpoints.autoscale_routes import AutoscaleRoutes
from azureml_emulator.endpoints.batch_endpoint_routes import BatchEndpointRoutes
from azureml_emulator.endpoints.deployment_containers import DeploymentContainers
from azureml_emulator.endpoints.online_endpoint_routes import OnlineEndpointRoutes
from azureml_emulator.endpoints.script_scoring import DeploymentScorer, ScriptScorer
from azureml_emulator.https_server import GateRules, HttpsServer, guarded
from azureml_emulator.identity.key_vault import KeyVault
from azureml_emulator.identity.loopback_tokens import OWNER, check
from azureml_emulator.identity.sign_in_routes import COMPUTE, COMPUTE_ROLES, SERVICE_PRINCIPALS, SignInRoutes, object_id
from azureml_emulator.jobs.emulated_job import EmulatedJob
from azureml_emulator.jobs.emulated_jobs import EmulatedJobs
from azureml_emulator.jobs.job_executor import CommandExecutor, JobExecutor
from azureml_emulator.jobs.mlflow_routes import MlflowRoutes
from azureml_emulator.jobs.run_history_routes import RunHistoryRoutes
from azureml_emulator.jobs.schedule_routes import ScheduleRoutes, fire
from azureml_emulator.pages.page_routes import Pages
from azureml_emulator.process_commands import ProcessCommands
from azureml_emulator.resources.account_routes import AccountRoutes
from azureml_emulator.resources.asset_routes import AssetRoutes
from azureml_emulator.resources.identity_routes import IdentityRoutes
from azureml_emulator.resources.provider_routes import ProviderRoutes
from azureml_emulator.resources.region_limits import RegionLimits
from azureml_emulator.resources.registry_routes import RegistryRoutes, registry
from azureml_emulator.resources.rest_resources import RestResource
from azureml_emulator.resources.storage_account_routes import StorageAccountRoutes
from azureml_emulator.resources.subscription import Subscription
from azureml_emulator.resources.workspace_routes import WorkspaceRoutes, datastore, workspace
from azureml_emulator.rest.cloud_addresses import CloudAddresses
from azureml_emulator.rest.faults import Faults
from azureml_emulator.rest.request_log import RequestLog, SeenRequest
from azureml_emulator.rest.rest_calls import Json
from azureml_emulator.storage.azurite import Azurite
from azureml_emulator.storage.blob_actions import BlobAction
from azureml_emulator.storage.storage_front import StorageFront

OWNER_ROLES = (
    "Key Vault Administrator", "Storage Blob Data Contributor", "Cognitive Services Custom Vision Contributor",
)  # fmt: skip
"""Roles on data that the owner initially has."""
_UNDER_WAY = ("Creating", "Updating", "Pending", "InProgress")


class KeptPart(Protocol):
    """A part that keeps more than resources."""

    def to_kept(self) -> Json:
        """Return its whole state as JSON."""

    def take(self, kept: Json) -> None:
        """Restore what :meth:`to_kept` returned."""


class EmulatedCloud(Subscription):
    """A subscription with all services of the emulator.

    Args:
        azurite: The running storage.
        folder: Folder in which jobs run; emptied by :meth:`reset`.
        certificates: Certificates of the addresses that web apps get.
        executor: Runs jobs; by default the command for jobs.
        commands: Commands that run jobs and serve containers.
        addresses: Addresses of its services.
        database: File that keeps the whole state; None for memory only.
    """

    def __init__(
        self,
        azurite: Azurite,
        folder: Path,
        certificates: Certificates,
        executor: JobExecutor | None = None,
        commands: ProcessCommands | None = None,
        addresses: CloudAddresses | None = None,
        database: Path | None = None,
    ) -> None:
        super().__init__(azurite, folder, commands or ProcessCommands(), addresses, database, certificates.authority)
        self.faults = Faults()
        self.requests = RequestLog()
        self.default_executor = executor or CommandExecutor(self.commands)
        self.executor: JobExecutor = self.default_executor
        self.sign_in = SignInRoutes(lambda: self.addresses.login, self._audiences)
        self.jobs = EmulatedJobs(self, lambda: self.executor)
        self.computes = Computes(self, self.jobs.on_compute)
        self.scorer: DeploymentScorer = ScriptScorer(self, self.jobs)
        self.servers = DeploymentContainers(self, self.jobs)
        self.groups = ContainerGroups(self)
        self.vault = KeyVault(lambda: self.addresses, self._may_use_secrets)
        self.front = StorageFront(
            azurite,
            certificates.authority,
            self.blobs.gate,
            self.faults,
            check,
            self._may_use_blobs,
            lambda app: HttpsServer(certificates).start(app),
        )
        self._storage = StorageAccountRoutes(self, lambda: self.front.url)
        self.rules = GateRules(
            lambda: self.addresses,
            self.faults,
            self.requests,
            self._workspace_of,
            self.authorise,
            kept=self.keep if database else None,
        )
        self.sites = AppService(self, certificates, self._publishing_site, self.vault.value_at)
        self.vision = EmulatedVision(self, lambda: self.sites.network, certificates.authority)
        self._online = OnlineEndpointRoutes(self, self.servers, lambda: self.scorer)
        self._keeping = threading.Lock()

    def routes(self) -> list[BaseRoute]:
        """Return all paths of the cloud."""
        return [
            *self.sign_in.routes(),
            *self.operations.routes(),
            *self.roles.routes(),
            *AccountRoutes(self).routes(),
            *IdentityRoutes(self).routes(),
            *ProviderRoutes(self).routes(),
            *WorkspaceRoutes(self).routes(),
            *self.computes.routes(),
            *AssetRoutes(self, self.jobs).routes(),
            *RegistryRoutes(self, self.jobs).routes(),
            *self.jobs.routes(),
            *RunHistoryRoutes(self, self.jobs).routes(),
            *MlflowRoutes(self, self.jobs).routes(),
            *ScheduleRoutes(self, self.jobs).routes(),
            *self._online.routes(),
            *AutoscaleRoutes(self).routes(),
            *BatchEndpointRoutes(self, self.jobs).routes(),
            *self.groups.routes(),
            *self.sites.routes(),
            *self.vision.routes(),
            *self._storage.routes(),
            *self.vault.routes(),
            *self.page_routes(),
        ]

    def page_routes(self) -> list[BaseRoute]:
        """Return the pages for people, which need no token."""
        return [*Pages(self, self.jobs, self.computes, self.deployment_log).routes()]

    def registry_sign_in(self) -> Starlette:
        """Return the application for the hosts of container registries, one per workspace: ``WORKSPACEimages``."""

        def names() -> set[str]:
            kept = self.store.children(f"{self.scope()}/workspaces")
            return {str(item.properties.get("containerRegistry")).rpartition("/")[2].lower() for item in kept}

        def may_pull(principal: str) -> bool:
            scope = f"/subscriptions/{self.subscription}/resourceGroups/{self.group}"
            return self.roles.allows(principal, "Microsoft.ContainerRegistry/registries/pull/read", scope)

        return registry_sign_in(lambda header: check(header, self.addresses.manager_resources), may_pull, names)

    def deployment_log(self, deployment: RestResource) -> str:
        """Return the log of a deployment of an online endpoint."""
        if deployment.properties.get("codeConfiguration"):
            return self.scorer.log(deployment)
        return self.servers.log(deployment, "")

    def port_of(self, host: str) -> int | None:
        """Return the address of a web app, or of its publishing site, by its host name."""
        return self.sites.port_of(host)

    def restore(self) -> bool:
        """Restore what an earlier process kept, and start again what ran; return whether there was anything."""
        found = self.store.below("/subscriptions")
        for item in found:
            state = item.properties.get("provisioningState")
            if state == "Deleting":
                self.store.delete(item.id)
            elif state in _UNDER_WAY:
                item.properties["provisioningState"] = "Succeeded"
        for name, part in self._parts().items():
            kept = self.store.find(f"/emulator/parts/{name}")
            if kept is not None:
                part.take(kept.properties)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._storage.restore()
        self.jobs.restore()
        self.computes.restore()
        self.groups.restore()
        self.vision.restore()
        self._online.restore()
        return bool(found)

    def keep(self) -> None:
        """Save what has changed, if this cloud outlives its process."""
        with self._keeping:
            for name, part in self._parts().items():
                content = part.to_kept()
                known = self.store.find(f"/emulator/parts/{name}")
                if known is None or known.properties != content:
                    self.store.put(f"/emulator/parts/{name}", {"properties": content})
            self.store.flush()

    def close(self) -> None:
        """Save everything, then end everything that runs."""
        self.keep()
        self.stop()
        self.store.close()

    def _parts(self) -> dict[str, KeptPart]:
        return {"vault": self.vault, "sites": self.sites}

    def _publishing_site(self, routes: list[BaseRoute]) -> object:
        # It shares its address with no other services: any path is its own.
        return guarded(routes, replace(self.rules, addresses=lambda: replace(self.addresses, public=False)))

    def _workspace_of(self, endpoint: str, batch: bool) -> str:
        kind = "batchEndpoints" if batch else "onlineEndpoints"
        for owner in self.store.children(f"{self.scope()}/workspaces"):
            if self.store.find(f"{owner.id}/{kind}/{endpoint}") is not None:
                return owner.name
        return self.workspace

    def set_up(self) -> None:
        """Create a workspace, a cluster and a registry, and give the service principals their roles."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for role, client in SERVICE_PRINCIPALS.items():
            self.roles.assign(object_id(client), role, f"/subscriptions/{self.subscription}")
        for role in OWNER_ROLES:
            self.roles.assign(OWNER, role, f"/subscriptions/{self.subscription}")
        for role in COMPUTE_ROLES:
            self.roles.assign(object_id(COMPUTE), role, f"/subscriptions/{self.subscription}")
        self.add_workspace(self.workspace)
        self.add_registry(self.registry)
        self.add_compute("cpu-cluster")

    def reset(self) -> None:
        """Stop the jobs and start over with an empty workspace, one cluster, and an empty registry."""
        self.stop()
        for part in (
            self.groups,
            self.sites,
            self.vision,
            self.store,
            self.faults,
            self.operations,
            self.blobs,
            self.vault,
            self.requests,
            self._online.counts,
        ):
            part.clear()
        shutil.rmtree(self.folder, ignore_errors=True)
        self.executor = self.default_executor
        self.scorer = ScriptScorer(self, self.jobs)
        self.limits = RegionLimits()
        self.page_size = 100
        self.sign_in.seconds = 3600
        self.operations.polls, self.operations.alone = 1, None
        self.set_up()

    def authorise(self, claims: Json, method: str, path: str) -> None:
        """Refuse a call to something that does not exist, or that no role allows. Raises ServiceRefusalError."""
        self.require_place(path)
        self.require_registration(method, path)
        self.roles.authorise(claims, method, path)

    def _may_use_secrets(self, claims: Json, action: str) -> bool:
        vault = f"/subscriptions/{self.subscription}/resourceGroups/{self.group}"
        return self.roles.allows(str(claims.get("oid")), action, vault, data=True)

    def _audiences(self) -> tuple[str, ...]:
        here = self.addresses
        return (*here.manager_resources, here.ml_resource, here.vault_resource)

    def _may_use_blobs(self, principal: str, done: BlobAction) -> bool:
        where = f"{self._storage.path}/blobServices/default/containers/{done.container}"
        return any(self.roles.allows(principal, action, where, data=done.data) for action in done.action)

    def stop(self) -> None:
        """End everything that runs: jobs, compute instances, deployments, container groups, web apps, and trainings."""
        self.jobs.stop()
        self.computes.stop()
        self.servers.stop()
        self.groups.stop()
        self.sites.stop()
        self.vision.stop()
        self.blobs.gate.allowed, self.blobs.front = True, ""
        self.front.stop()

    def turn_shared_keys_off(self) -> None:
        """Make the storage account accept only tokens, at an address with TLS, and remove its keys from the workspace.

        The service still hands out signatures by the account's key for code uploads, but nobody accepts them.
        """
        self._storage.allow_shared_keys(False)

    def add_workspace(self, name: str) -> RestResource:
        """Create a workspace with its two datastores."""
        made, _ = self.store.put(self.path(name), workspace(self, name))
        for store, default in (("workspaceblobstore", True), ("workspaceartifactstore", False)):
            container = self.blobs.make_container(store.removeprefix("workspace"))
            self.store.put(
                f"{made.id}/datastores/{store}", datastore(container, default, self.addresses.storage_suffix)
            )
        return made

    def add_registry(self, name: str) -> RestResource:
        """Create a registry, with a separate container for its assets."""
        made, _ = self.store.put(f"{self.scope()}/registries/{name}", registry(name))
        container = self.blobs.make_container("registry")
        self.store.put(f"/emulator/containers/registries/{name}", {"properties": {"container": container}})
        return made

    def add_compute(self, name: str, workspace: str | None = None, size: str = "Standard_DS3_v2") -> RestResource:
        """Create a cluster."""
        made, _ = self.store.put(f"{self.path(workspace)}/computes/{name}", cluster(size))
        return made

    def fire(self, schedule: str, workspace: str | None = None) -> EmulatedJob:
        """Start the job of a schedule, as the service does when its time has come.

        Raises:
            ServiceRefusalError: 404, the schedule does not exist; 409, it is disabled.
        """
        return fire(self.jobs, self.store.get(f"{self.path(workspace)}/schedules/{schedule}"))

    def seen(self, part: str = "", method: str = "") -> list[SeenRequest]:
        """Return the requests whose path contains a text, oldest first."""
        return self.requests.seen(part, method)
