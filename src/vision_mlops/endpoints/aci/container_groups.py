"""The calls to Azure Container Instances, in one resource group."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

from vision_mlops.azure.azure_errors import azure_errors, found_or_none
from vision_mlops.azure.clients import containers_client
from vision_mlops.azure.retries import retry_while_busy
from vision_mlops.config.azure_settings import AzureSettings
from vision_mlops.core.errors import AzureError, DeploymentError
from vision_mlops.endpoints.aci.group_definition import CONTAINER, facts

if TYPE_CHECKING:
    from azure.core.polling import LROPoller
    from azure.mgmt.containerinstance import ContainerInstanceManagementClient
    from azure.mgmt.containerinstance.models import ContainerGroup

_PATIENCE_SECONDS = 120.0


class Groups:
    """Container groups of a resource group. All methods raise AzureError.

    Args:
        settings: Where in Azure.
        client: Client to use instead of a new one.
    """

    def __init__(self, settings: AzureSettings, client: ContainerInstanceManagementClient | None = None) -> None:
        self._group = settings.resource_group
        self._client = client or containers_client(settings)

    def find(self, name: str, say: Callable[[str], None] = lambda text: None) -> ContainerGroup | None:
        """Return a group with its instance view; None if it does not exist."""
        with azure_errors(f"container group {name!r}"):
            get = partial(self._client.container_groups.get, self._group, name)
            return found_or_none(lambda: retry_while_busy(get, say, seconds=_PATIENCE_SECONDS))

    def get(self, name: str) -> ContainerGroup:
        """Return a group that this package created. Raises DeploymentError if it does not exist."""
        found = self.find(name)
        if found is None or facts(found) is None:
            raise DeploymentError(f"no endpoint {name!r} exists on aci", "mlops endpoint list --on aci")
        return found

    def made(self) -> list[str]:
        """Return names of all groups that this package created."""
        with azure_errors("container groups"):
            found = self._client.container_groups.list_by_resource_group(self._group)
            return sorted(str(item.name) for item in found if facts(item) is not None)

    def put(self, name: str, group: ContainerGroup) -> LROPoller[ContainerGroup] | None:
        """Create a group, or change it in place; returns once the service has accepted it.

        None if the same change is already in progress: the SDK repeats a request if its response was lost.
        """
        try:
            with azure_errors(f"container group {name!r}"):
                return self._client.container_groups.begin_create_or_update(self._group, name, group)
        except AzureError as error:
            found = self.find(name) if error.status == 409 else None
            if found is None or facts(found) is None or facts(found) != facts(group):
                raise
            return None

    def start(self, name: str) -> LROPoller[None]:
        """Start a group that was stopped; returns once the service has accepted it."""
        with azure_errors(f"container group {name!r}"):
            return self._client.container_groups.begin_start(self._group, name)

    def delete(self, name: str) -> None:
        """Delete a group, and wait until it is gone."""
        with azure_errors(f"container group {name!r}"):
            self._client.container_groups.begin_delete(self._group, name).result()

    def logs(self, name: str, lines: int) -> str:
        """Return the last lines that the container has written."""
        with azure_errors(f"log of container group {name!r}"):
            return str(self._client.containers.list_logs(self._group, name, CONTAINER, tail=lines).content or "")

    def set_tags(self, name: str, tags: Mapping[str, str]) -> None:
        """Replace all tags of a group; its container keeps running."""
        with azure_errors(f"container group {name!r}"):
            from azure.mgmt.containerinstance.models import Resource

            self._client.container_groups.update(self._group, name, Resource(tags=dict(tags)))
