"""Managed identities in one resource group: who may act as them without a secret, and which roles they have.

Through the resource manager itself, so that no further package of Azure's is needed. Every call raises AzureError.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from vision_mlops.azure.azure_errors import azure_errors
from vision_mlops.azure.clients import default_credential, manager_calls
from vision_mlops.config.azure_settings import AzureSettings

if TYPE_CHECKING:
    from azure.core.credentials import TokenCredential

IDENTITIES_VERSION = "2023-01-31"
ROLES_VERSION = "2022-04-01"
_SUBSCRIPTIONS_VERSION = "2022-12-01"
_WORKSPACES_VERSION = "2024-04-01"
_REGISTRIES_VERSION = "2022-10-01-preview"
AUDIENCE = "api://AzureADTokenExchange"
"""Audience of the tokens that are exchanged for one of Microsoft Entra ID."""
_ROLES = "/providers/Microsoft.Authorization"


@dataclass(frozen=True)
class ManagedIdentity:
    """A user-assigned managed identity."""

    id: str
    client_id: str
    principal_id: str
    tenant_id: str


@dataclass(frozen=True)
class Federation:
    """An identity outside of Azure that may act as a managed identity: name, and issuer and subject of its tokens."""

    name: str
    issuer: str
    subject: str


class IdentityDirectory:
    """Identities of the resource group of the settings.

    Args:
        settings: Subscription, resource group and cloud.
    """

    def __init__(self, settings: AzureSettings) -> None:
        self._settings = settings
        self.subscription = f"/subscriptions/{settings.subscription_id}"
        self.group = f"{self.subscription}/resourceGroups/{settings.resource_group}"
        machine_learning = f"{self.group}/providers/Microsoft.MachineLearningServices"
        self.workspace = f"{machine_learning}/workspaces/{settings.workspace_name}"

    @cached_property
    def _credential(self) -> TokenCredential:
        """One sign-in for all calls, which remembers its token."""
        return default_credential(self._settings)

    def subscription_name(self) -> str:
        """Name of the subscription, as people see it."""
        found = self._call("GET", self.subscription, _SUBSCRIPTIONS_VERSION, "subscription")
        return str((found or {}).get("displayName") or self._settings.subscription_id)

    def workspace_properties(self) -> Mapping[str, Any]:
        """What the workspace knows of the resources around it; empty where it does not exist."""
        found = self._call("GET", self.workspace, _WORKSPACES_VERSION, f"workspace {self._settings.workspace_name!r}")
        return dict((found or {}).get("properties") or {})

    def registry_path(self, name: str) -> str:
        """Path of an Azure ML registry of the subscription; empty where it has none of the name."""
        path = f"{self.subscription}/providers/Microsoft.MachineLearningServices/registries"
        found = self._call("GET", path, _REGISTRIES_VERSION, f"registry {name!r}") or {}
        return next((str(row["id"]) for row in found.get("value", []) if row["name"].lower() == name.lower()), "")

    def cluster_principal(self, cluster: str) -> str:
        """Object id of the identity that jobs on a compute cluster act as; empty where it has none, or does not exist."""
        path = f"{self.workspace}/computes/{cluster}"
        found = self._call("GET", path, _WORKSPACES_VERSION, f"compute cluster {cluster!r}") or {}
        identity = found.get("identity") or {}
        assigned = [item.get("principalId") for item in (identity.get("userAssignedIdentities") or {}).values()]
        return str(next(filter(None, assigned), None) or identity.get("principalId") or "")

    def exists(self, path: str, version: str) -> bool:
        """Whether a resource exists."""
        return self._call("GET", path, version, path.rpartition("/")[2]) is not None

    def find(self, name: str) -> ManagedIdentity | None:
        """An identity by its name; None where there is none."""
        found = self._call("GET", self._path(name), IDENTITIES_VERSION, f"identity {name!r}")
        return _identity(found) if found is not None else None

    def create(self, name: str) -> ManagedIdentity:
        """Make an identity in the region of the settings."""
        body = {"location": self._settings.location, "tags": {"project": "vision-mlops"}}
        made = self._call("PUT", self._path(name), IDENTITIES_VERSION, f"identity {name!r}", body)
        return _identity(made or {})

    def federations(self, name: str) -> list[Federation]:
        """Who may act as an identity; nobody where it does not exist."""
        path = f"{self._path(name)}/federatedIdentityCredentials"
        found = self._call("GET", path, IDENTITIES_VERSION, f"federated credentials of {name!r}") or {}
        return [
            Federation(item["name"], item["properties"]["issuer"], item["properties"]["subject"])
            for item in found.get("value", [])
        ]

    def federate(self, name: str, federation: Federation) -> None:
        """Let an outside identity act as one of here; replaces what has the same name."""
        body = {
            "properties": {"issuer": federation.issuer, "subject": federation.subject, "audiences": [AUDIENCE]},
        }
        path = f"{self._path(name)}/federatedIdentityCredentials/{federation.name}"
        self._call("PUT", path, IDENTITIES_VERSION, f"federated credential {federation.name!r} of {name!r}", body)

    def role_id(self, role: str) -> str:
        """Id of the definition of a role that is built into Azure, by its name; empty where there is none."""
        path = f"{self.subscription}{_ROLES}/roleDefinitions"
        found = self._call("GET", path, ROLES_VERSION, f"role {role!r}", filter=f"roleName eq '{role}'") or {}
        rows = found.get("value", [])
        return str(rows[0]["name"]).lower() if rows else ""

    def held_roles(self, principal: str, scope: str) -> list[tuple[str, str]]:
        """Roles of a principal at a scope, above and below it: the id of each and its scope, both in lower case."""
        path = f"{scope}{_ROLES}/roleAssignments"
        found = self._call("GET", path, ROLES_VERSION, "role assignments", filter=f"principalId eq '{principal}'") or {}
        properties = [item["properties"] for item in found.get("value", [])]
        return [
            (str(item["roleDefinitionId"]).rpartition("/")[2].lower(), str(item["scope"]).lower())
            for item in properties
        ]

    def assign(self, principal: str, role: str, scope: str) -> None:
        """Give a principal a role, by the id of its definition, at a scope."""
        definition = f"{'/'.join(scope.split('/')[:3])}{_ROLES}/roleDefinitions/{role}"
        name = uuid.uuid5(uuid.NAMESPACE_URL, f"{principal} {role.lower()} {scope.lower()}")
        body = {
            "properties": {
                "principalId": principal,
                "roleDefinitionId": definition,
                "principalType": "ServicePrincipal",
            }
        }
        path = f"{scope}{_ROLES}/roleAssignments/{name}"
        self._call("PUT", path, ROLES_VERSION, f"role assignment on {scope.rpartition('/')[2]!r}", body, taken=True)

    def _path(self, name: str) -> str:
        return f"{self.group}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/{name}"

    def _call(
        self,
        method: str,
        path: str,
        version: str,
        what: str,
        body: object = None,
        *,
        filter: str = "",
        taken: bool = False,
    ) -> dict[str, Any] | None:
        """The response; None where a read finds nothing, or ``taken`` says that what exists already is fine."""
        from azure.core.rest import HttpRequest

        params = {"api-version": version} | ({"$filter": filter} if filter else {})
        with azure_errors(what, _HINT), manager_calls(self._settings, self._credential) as client:
            url = f"{self._settings.cloud.resource_manager}{path}"
            response = client.send_request(HttpRequest(method, url, params=params, json=body))
            if method == "GET" and response.status_code == 404 and _is_missing_resource(response.text()):
                return None
            if taken and response.status_code == 409 and "RoleAssignmentExists" in response.text():
                return None
            response.raise_for_status()
            return dict(response.json())


_HINT = (
    "creating identities takes the role Managed Identity Contributor, assigning roles Role Based Access Control"
    " Administrator, both on the resource group"
)


def _is_missing_resource(text: str) -> bool:
    """Whether the resource is missing; not its resource group or subscription, which is a mistake in the settings."""
    return "ResourceGroupNotFound" not in text and "SubscriptionNotFound" not in text


def _identity(body: Mapping[str, Any]) -> ManagedIdentity:
    properties = body["properties"]
    return ManagedIdentity(
        str(body["id"]), str(properties["clientId"]), str(properties["principalId"]), str(properties["tenantId"])
    )
