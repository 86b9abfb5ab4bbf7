"""Service connections without a secret: Azure Resource Manager, and the Container Registry for images of jobs."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from vision_mlops.core.errors import AzureError
from vision_mlops.devops.devops_client import Json
from vision_mlops.devops.setup.identity_parts import IdentityPart
from vision_mlops.devops.setup.project_parts import NamedPart, ProjectPart
from vision_mlops.devops.setup.setup_part import EXISTS, SetupFinding, blocked, missing

FEDERATED = "WorkloadIdentityFederation"
_CLOUDS = ("AzureCloud", "AzureUSGovernment", "AzureChinaCloud")


class ForeignConnectionPart(NamedPart):
    """A service connection that only a person can create, such as one to GitHub, which asks them to sign in there."""

    kind = "service connection"
    collection, selector = "serviceendpoint/endpoints", "endpointNames"

    def __init__(self, project: ProjectPart, name: str, type: str) -> None:
        super().__init__(project, name)
        self._type = type

    def _absent(self) -> SetupFinding:
        place = "Project settings > Service connections"
        fix = f"create the project, then the connection (type {self._type}) in {place}"
        return blocked("only a person can create it", fix)


class ConnectionPart(NamedPart):
    """A service connection that acts as a managed identity. ``id`` and ``origin`` are known once it exists."""

    kind = "service connection"
    type = ""
    collection, selector = "serviceendpoint/endpoints", "endpointNames"
    permission = (
        "creating a service connection needs the role Creator (Project settings > Service connections > Security)"
    )

    def __init__(self, project: ProjectPart, name: str, identity: IdentityPart) -> None:
        super().__init__(project, name)
        self.identity = identity
        self._origin = ("", "")

    def origin(self) -> tuple[str, str]:
        """Return issuer and subject of its tokens, as the service reports them: their form depends on its age."""
        return self._origin

    def _look(self) -> SetupFinding:
        found = self._row(includeFailed="true")
        if found is None:
            return missing(f"acts as {self.identity.name}")
        self._take(found)
        return self._compared(found)

    def _make(self) -> None:
        identity, project = self.identity.found, self.project
        assert identity is not None
        body = {
            "name": self.name,
            "type": self.type,
            "url": self._url(),
            "owner": "library",
            "isShared": False,
            "isReady": True,
            "description": "Created by mlops devops init.",
            "authorization": {
                "scheme": FEDERATED,
                "parameters": {**self._parameters(), "serviceprincipalid": identity.client_id},
            },
            "data": {**self._data(), "creationMode": "Manual"},
            "serviceEndpointProjectReferences": [
                {"name": self.name, "projectReference": {"id": project.id, "name": project.name}}
            ],
        }
        self._take(project.client.send("POST", "_apis/serviceendpoint/endpoints", body))

    def _take(self, found: Json) -> None:
        self.id = str(found["id"])
        parameters = (found.get("authorization") or {}).get("parameters") or {}
        kept = (parameters.get("workloadIdentityFederationIssuer"), parameters.get("workloadIdentityFederationSubject"))
        self._origin = (str(kept[0] or ""), str(kept[1] or ""))
        if found.get("authorization", {}).get("scheme") == FEDERATED and not all(self._origin):
            raise AzureError(
                "the service reports no issuer and subject", "check the connection in the project's settings"
            )

    def _compared(self, found: Json) -> SetupFinding:
        """Leave what differs to a person: other pipelines may use the connection."""
        away = f"rename or delete it in Project settings > Service connections, or change its name in {_NAMES}"
        authorization, data = found.get("authorization") or {}, found.get("data") or {}
        if found.get("type", "").lower() != self.type:
            return blocked(f"its type is {found.get('type')}, not {self.type}", away)
        if authorization.get("scheme") != FEDERATED:
            return blocked(f"it signs in with {authorization.get('scheme')}, which needs a secret", away)
        subscription = self.identity.stage.settings.subscription_id
        if data.get("subscriptionId", subscription).lower() != subscription.lower():
            return blocked(f"it is for the subscription {data['subscriptionId']}", away)
        client = str((authorization.get("parameters") or {}).get("serviceprincipalid") or "").lower()
        wanted = self.identity.found
        if wanted is None or client != wanted.client_id.lower():
            return blocked(f"it acts as the client {client}, not as {self.identity.name}", away)
        if found.get("isDisabled"):
            return blocked("it is disabled", "enable it in Project settings > Service connections")
        return EXISTS

    @abstractmethod
    def _url(self) -> str:
        """Return the address that it connects to."""

    @abstractmethod
    def _parameters(self) -> dict[str, str]:
        """Return the parameters of the sign-in, without the identity."""

    def _data(self) -> dict[str, Any]:
        stage = self.identity.stage
        return {
            "subscriptionId": stage.settings.subscription_id,
            "subscriptionName": stage.directory.subscription_name(),
        }

    @property
    def _tenant(self) -> str:
        assert self.identity.found is not None
        return self.identity.found.tenant_id


class AzureConnectionPart(ConnectionPart):
    """To Azure Resource Manager; the roles of its identity decide what it may do there."""

    type = "azurerm"

    def _url(self) -> str:
        return f"{self.identity.stage.settings.cloud.resource_manager}/"

    def _parameters(self) -> dict[str, str]:
        return {"tenantid": self._tenant}

    def _data(self) -> dict[str, Any]:
        name = self.identity.stage.settings.cloud.name
        cloud = name if name in _CLOUDS else "AzureStack"
        return {**super()._data(), "environment": cloud, "scopeLevel": "Subscription"}


class RegistryConnectionPart(ConnectionPart):
    """To the Container Registry of an environment."""

    type = "dockerregistry"

    def _look(self) -> SetupFinding:
        if not self.identity.stage.settings.container_registry:
            return blocked(
                f"the environment {self.identity.stage.name} has no Container Registry",
                f"set MLOPS_AZURE_CONTAINER_REGISTRY in {self.identity.stage.source}",
            )
        return super()._look()

    def _url(self) -> str:
        return f"https://{self._server}"

    def _parameters(self) -> dict[str, str]:
        return {"tenantId": self._tenant, "loginServer": self._server, "scope": self._registry}

    def _data(self) -> dict[str, Any]:
        return {**super()._data(), "registryId": self._registry, "registrytype": "ACR"}

    @property
    def _server(self) -> str:
        return str(self.identity.stage.settings.container_registry).partition("/")[0]

    @property
    def _registry(self) -> str:
        group = self.identity.stage.directory.group
        return f"{group}/providers/Microsoft.ContainerRegistry/registries/{self._server.partition('.')[0]}"


_NAMES = "ado_pipelines/variables"
