"""Managed identities in one resource group: who may act as them without a secret, and which roles they have.

They are managed through the resource manager itself, so no further package of Azure is needed. Every call raises AzureError.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vision_mlops.azure.resource_manager import ResourceManager
from vision_mlops.core.errors import AzureError

IDENTITIES_VERSION = "2023-01-31"
ROLES_VERSION = "2022-04-01"
_SUBSCRIPTIONS_VERSION = "2022-12-01"
_WORKSPACES_VERSION = "2024-04-01"
_REGISTRIES_VERSION = "2022-10-01-preview"
AUDIENCE = "api://AzureADTokenExchange"
"""Audience of the tokens that are exchanged for tokens of Microsoft Entra ID."""
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
    """An identity outside Azure that may act as a managed identity: name, and issuer and subject of its tokens."""

    name: str
    issuer: str
    subject: str


class IdentityDirectory(ResourceManager):
    """Identities of the resource group of the settings."""

    def subscription_name(self) -> str:
        """Return the display name of the subscription."""
        found = self.find("subscription", self.subscription, _SUBSCRIPTIONS_VERSION)
        return str((found or {}).get("displayName") or self._settings.subscription_id)

    def workspace_properties(self) -> Mapping[str, Any]:
        """Return the properties of the workspace, which name the resources around it; empty if it does not exist."""
        found = self.find(f"workspace {self._settings.workspace_name!r}", self.workspace, _WORKSPACES_VERSION)
        return dict((found or {}).get("properties") or {})

    def registry_path(self, name: str) -> str:
        """Return the path of an Azure ML registry of the subscription; empty if it has none of that name."""
        path = f"{self.subscription}/providers/Microsoft.MachineLearningServices/registries"
        rows = self._rows(f"registry {name!r}", path, _REGISTRIES_VERSION)
        return next((str(row["id"]) for row in rows if row["name"].lower() == name.lower()), "")

    def cluster_principal(self, cluster: str) -> str:
        """Return the object id of the identity that jobs on a cluster act as; empty if it has none, or does not exist."""
        path = f"{self.workspace}/computes/{cluster}"
        found = self.find(f"compute cluster {cluster!r}", path, _WORKSPACES_VERSION) or {}
        identity = found.get("identity") or {}
        assigned = [item.get("principalId") for item in (identity.get("userAssignedIdentities") or {}).values()]
        return str(next(filter(None, assigned), None) or identity.get("principalId") or "")

    def exists(self, path: str, version: str) -> bool:
        """Return whether a resource exists."""
        return self.find(path.rpartition("/")[2], path, version) is not None

    def identity(self, name: str) -> ManagedIdentity | None:
        """Return an identity by its name; None if it does not exist."""
        found = self.find(f"identity {name!r}", self._path(name), IDENTITIES_VERSION, hint=_HINT)
        return _identity(found) if found is not None else None

    def create(self, name: str) -> ManagedIdentity:
        """Create an identity in the region of the settings."""
        body = {"location": self._settings.location, "tags": {"project": "vision-mlops"}}
        return _identity(self.call("PUT", f"identity {name!r}", self._path(name), IDENTITIES_VERSION, body, hint=_HINT))

    def federations(self, name: str) -> list[Federation]:
        """Return who may act as an identity; nobody if it does not exist."""
        path = f"{self._path(name)}/federatedIdentityCredentials"
        rows = self._rows(f"federated credentials of {name!r}", path, IDENTITIES_VERSION, hint=_HINT)
        return [Federation(row["name"], row["properties"]["issuer"], row["properties"]["subject"]) for row in rows]

    def federate(self, name: str, federation: Federation) -> None:
        """Let an outside identity act as one of these; replaces a credential of the same name."""
        body = {
            "properties": {"issuer": federation.issuer, "subject": federation.subject, "audiences": [AUDIENCE]},
        }
        path = f"{self._path(name)}/federatedIdentityCredentials/{federation.name}"
        what = f"federated credential {federation.name!r} of {name!r}"
        self.call("PUT", what, path, IDENTITIES_VERSION, body, hint=_HINT)

    def role_id(self, role: str) -> str:
        """Return the id of the definition of a role that is built into Azure, by its name; empty if there is none."""
        path = f"{self.subscription}{_ROLES}/roleDefinitions"
        rows = self._rows(f"role {role!r}", path, ROLES_VERSION, filter=f"roleName eq '{role}'")
        return str(rows[0]["name"]).lower() if rows else ""

    def held_roles(self, principal: str, scope: str) -> list[tuple[str, str]]:
        """Return the roles of a principal at, above and below a scope: the id of each and its scope, both in lower case."""
        path = f"{scope}{_ROLES}/roleAssignments"
        rows = self._rows("role assignments", path, ROLES_VERSION, filter=f"principalId eq '{principal}'")
        found = [row["properties"] for row in rows]
        return [
            (str(role["roleDefinitionId"]).rpartition("/")[2].lower(), str(role["scope"]).lower()) for role in found
        ]

    def assign(self, principal: str, role: str, scope: str) -> None:
        """Assign a role to a principal at a scope, by the id of its definition."""
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
        try:
            what = f"role assignment on {scope.rpartition('/')[2]!r}"
            self.call("PUT", what, path, ROLES_VERSION, body, hint=_HINT)
        except AzureError as error:
            if "RoleAssignmentExists" not in error.message:  # someone else has assigned it in the meantime
                raise

    def _rows(self, what: str, path: str, version: str, **query: str) -> list[dict[str, Any]]:
        return list((self.find(what, path, version, **query) or {}).get("value", []))

    def _path(self, name: str) -> str:
        return f"{self.group}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/{name}"


_HINT = (
    "creating identities needs the role Managed Identity Contributor, assigning roles Role Based Access Control"
    " Administrator, both on the resource group"
)


def _identity(body: Mapping[str, Any]) -> ManagedIdentity:
    properties = body["properties"]
    return ManagedIdentity(
        str(body["id"]), str(properties["clientId"]), str(properties["principalId"]), str(properties["tenantId"])
    )
