"""Roles that the identities of a web app and its slot need, as ``az`` commands that assign them.

A slot has its own identity, and identities are not swapped, so both need each role.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

from vision_mlops.config.azure_settings import AzureSettings
from vision_mlops.endpoints.appservice.site_definition import APP, is_reference

_MANAGED = ".inference.ml.azure.com"


def role_commands(
    settings: AzureSettings, image: str, values: Mapping[str, str], principals: Sequence[str]
) -> tuple[str, ...]:
    """Return the commands that assign each role to each identity; none if the app needs no role.

    Args:
        settings: Where in Azure.
        image: Image that the web app runs; empty for a zip.
        values: Settings of the app.
        principals: Object ids of the identities.
    """
    return tuple(
        "az role assignment create --assignee-principal-type ServicePrincipal"
        f' --assignee-object-id {principal} --role "{role}" --scope {scope}'
        for role, scope in _needed(settings, image, values)
        for principal in principals
    )


def _needed(settings: AzureSettings, image: str, values: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return each role with its scope."""
    group = f"/subscriptions/{settings.subscription_id}/resourceGroups/{settings.resource_group}/providers"
    found = []
    host = urlsplit(values.get(f"{APP}ENDPOINT", "")).hostname or ""
    auth = values.get(f"{APP}ENDPOINT_AUTH", "")
    if auth == "identity" or (not auth and not values.get(f"{APP}ENDPOINT_KEY") and host.endswith(_MANAGED)):
        workspace = f"{group}/Microsoft.MachineLearningServices/workspaces/{settings.workspace_name}"
        scope = f"{workspace}/onlineEndpoints/{host.partition('.')[0]}" if host.endswith(_MANAGED) else workspace
        found.append(("AzureML Data Scientist", scope))
    if image:
        registry = image.partition("/")[0].partition(".")[0]
        found.append(("AcrPull", f"{group}/Microsoft.ContainerRegistry/registries/{registry}"))
    corrections = urlsplit(values.get(f"{APP}CORRECTIONS", "")).hostname or ""
    if corrections:
        account = corrections.partition(".")[0]
        found.append(("Storage Blob Data Contributor", f"{group}/Microsoft.Storage/storageAccounts/{account}"))
    if any(is_reference(value) for value in values.values()):
        vault = settings.key_vault or "VAULT"
        vault = (urlsplit(vault).hostname or vault).partition(".")[0]
        found.append(("Key Vault Secrets User", f"{group}/Microsoft.KeyVault/vaults/{vault}"))
    return found
