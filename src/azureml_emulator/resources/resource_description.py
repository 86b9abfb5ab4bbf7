"""What the service adds to each resource that it returns: its type, and the principals of its identities."""

from __future__ import annotations

import uuid

from azureml_emulator.identity.loopback_tokens import TENANT
from azureml_emulator.rest.rest_calls import Json

_PROVIDERS = "/providers/"


def resource_type(path: str) -> str:
    """Return the type of a resource by its path, such as ``Microsoft.MachineLearningServices/workspaces/jobs``."""
    provider, *rest = path.rpartition(_PROVIDERS)[2].strip("/").split("/")
    return "/".join([provider, *rest[::2]])


def principal_of(path: str, role: str = "principal") -> str:
    """Return the id of a resource's identity in the directory, which is always the same."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{role}:{path.lower()}"))


def with_principals(body: Json, path: str) -> Json:
    """Return a resource whose ``identity`` has the principals that the directory has created for it."""
    identity: Json | None = body.get("identity")
    if not identity or identity.get("type") in (None, "None"):
        return body
    filled = dict(identity)
    if "SystemAssigned" in str(identity["type"]):
        filled = {"principalId": principal_of(path), "tenantId": TENANT, **identity}
    if assigned := identity.get("userAssignedIdentities"):
        filled["userAssignedIdentities"] = {
            one: {"principalId": principal_of(one), "clientId": principal_of(one, "client"), **(kept or {})}
            for one, kept in assigned.items()
        }
    return {**body, "identity": filled}
