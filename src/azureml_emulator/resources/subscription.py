"""What all services share: one subscription with one resource group, its content, and the storage of blobs.

The services of the emulator get a subscription and do not know the cloud that puts them together.
"""

from __future__ import annotations

import re
from pathlib import Path

from azureml_emulator.identity.loopback_tokens import TENANT
from azureml_emulator.process_commands import ProcessCommands
from azureml_emulator.resources.arm_paths import GROUP, PROVIDER, SCOPE, SUBSCRIPTION
from azureml_emulator.resources.region_limits import RegionLimits
from azureml_emulator.resources.rest_resources import ResourceStore, RestResource
from azureml_emulator.resources.role_assignments import RoleAssignments
from azureml_emulator.resources.written_bodies import check_written
from azureml_emulator.rest.cloud_addresses import CloudAddresses
from azureml_emulator.rest.long_running import LongRunningOperations
from azureml_emulator.rest.rest_calls import Json, RestCall, ServiceRefusalError
from azureml_emulator.storage.azurite import Azurite
from azureml_emulator.storage.azurite_account import AzuriteAccount


class Subscription:
    """One subscription with one resource group, workspaces and registries.

    Args:
        azurite: The running storage.
        folder: Folder that running processes may write to.
        commands: Commands that run jobs and serve containers.
        addresses: Addresses of the services; set later if a port must be found first.
        database: File to keep all resources in; None for memory only.
        authority: Certificate authority to trust if storage is reached by https.

    Attributes:
        pages: Address of the pages for people, if it is not that of the resource manager.
    """

    subscription = SUBSCRIPTION
    group = GROUP
    tenant = TENANT
    workspace = "ws"
    registry = "shared"

    def __init__(
        self,
        azurite: Azurite,
        folder: Path,
        commands: ProcessCommands,
        addresses: CloudAddresses | None = None,
        database: Path | None = None,
        authority: Path | None = None,
    ) -> None:
        self.addresses = addresses or CloudAddresses.loopback("")
        self.folder = folder
        self.commands = commands
        self.store = ResourceStore(database)
        self.roles = RoleAssignments(self.store)
        self.blobs = AzuriteAccount(azurite, lambda: self.addresses, authority)
        self.operations = LongRunningOperations(lambda: self.url)
        self.limits = RegionLimits()
        self.page_size = 100
        self.pages = ""

    @property
    def url(self) -> str:
        """Return the address of the resource manager."""
        return self.addresses.manager

    def scope(self) -> str:
        """Return the path of what is in the resource group."""
        return SCOPE.format(subscription=self.subscription, group=self.group)

    def path(self, workspace: str | None = None) -> str:
        """Return the path of a workspace."""
        return f"{self.scope()}/workspaces/{workspace or self.workspace}"

    def container(self, store: str, workspace: str | None = None) -> str:
        """Return the container of a datastore."""
        found = self.store.get(f"{self.path(workspace)}/datastores/{store}")
        return str(found.properties["containerName"])

    def require_place(self, path: str) -> None:
        """Refuse a call to another subscription or resource group. Raises ServiceRefusalError."""
        start = path.lower().find("/subscriptions/")
        parts = path[start:].split("/")[1:] if start >= 0 else []
        if len(parts) > 1 and parts[1].lower() != self.subscription:
            message = f"The subscription {parts[1]!r} could not be found."
            raise ServiceRefusalError(404, "SubscriptionNotFound", message)
        if len(parts) > 3 and parts[2].lower() == "resourcegroups" and parts[3].lower() != self.group.lower():
            raise ServiceRefusalError(404, "ResourceGroupNotFound", f"Resource group {parts[3]!r} could not be found.")

    def require_registration(self, method: str, path: str) -> None:
        """Refuse to change something of a resource provider that is not registered. Raises ServiceRefusalError."""
        found = re.search(r"/resourceGroups/[^/]+/providers/([^/]+)/", path, re.IGNORECASE)
        state = self.limits.subscription_state
        if method in ("PUT", "PATCH") and state not in ("Enabled", "Active", "PastDue", "Warned"):
            message = f"The subscription '{self.subscription}' is disabled and therefore marked as read only."
            raise ServiceRefusalError(409, "ReadOnlyDisabledSubscription", message)
        if method in ("PUT", "PATCH") and found and found[1].lower() in self.limits.unregistered:
            message = f"The subscription is not registered to use namespace '{found[1]}'."
            raise ServiceRefusalError(409, "MissingSubscriptionRegistration", message)

    def require_workspace(self, call: RestCall) -> None:
        """Refuse a call whose workspace does not exist, or that writes an invalid resource."""
        names = call.names
        path = f"/subscriptions/{names['subscription']}/resourceGroups/{names['group']}/{PROVIDER}/workspaces"
        if self.store.find(f"{path}/{names['workspace']}") is None:
            what = f"Microsoft.MachineLearningServices/workspaces/{names['workspace']}"
            message = f"The resource {what!r} under resource group {names['group']!r} was not found."
            raise ServiceRefusalError(404, "ResourceNotFound", message)
        if call.method == "PUT":
            check_written(call.path, call.body)

    def page(self, items: list[RestResource], call: RestCall) -> Json:
        """Return one page of a list, with the link to the next."""
        return self.page_of([item.to_dict() for item in items], call)

    def page_of(self, items: list[Json], call: RestCall) -> Json:
        """Return one page of a list of responses, with the link to the next."""
        start, top = int(call.query.get("$skip") or 0), call.query.get("$top")
        limit = min(self.page_size, int(top)) if top else self.page_size
        body: Json = {"value": items[start : start + limit]}
        # With $top, the client requested this number and no more.
        if not top and start + limit < len(items):
            others = "&".join(f"{key}={value}" for key, value in call.query.items() if key != "$skip")
            body["nextLink"] = f"{self.url}{call.path}?{others}&$skip={start + limit}"
        return body
