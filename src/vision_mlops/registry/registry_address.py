"""Opens the registry of an address: MLflow's, or the models of a workspace or registry of Azure ML."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any, Literal

from vision_mlops.core.errors import RegistryError

if TYPE_CHECKING:
    from vision_mlops.registry.azureml.azureml_registry import AzureRegistry
    from vision_mlops.registry.bundle_registry import Registry

VARIABLE = "MLOPS_REGISTRY"
_WORKSPACE = re.compile(
    r"azureml://(?:.*?/)?subscriptions/(?P<subscription_id>[^/]+)/resourceGroups/(?P<resource_group>[^/]+)"
    r"/(?:providers/Microsoft\.MachineLearningServices/)?workspaces/(?P<workspace_name>[^/?]+)/?(?:\?.*)?",
    re.IGNORECASE,
)
_NEAR = re.compile(r"azureml://(?P<kind>registries|workspaces)/(?P<name>[A-Za-z0-9][\w-]{1,32})/?")


def open_registry(address: str | None = None) -> Registry:
    """Open the registry of an address. Nothing but the Azure settings is read, and nothing sent, before it is used.

    Args:
        address: ``mlflow``, the registry in the tracking store. ``azure``, the workspace of the Azure settings.
            ``azureml://workspaces/NAME``, another workspace of the same resource group.
            ``azureml://registries/NAME``, an Azure ML registry, which workspaces share.
            ``azureml://subscriptions/S/resourceGroups/G/workspaces/W``, a workspace anywhere. By default,
            MLOPS_REGISTRY decides; without it, a job on Azure ML uses its workspace, and everything else MLflow's.

    Raises:
        RegistryError: the address is none of these.
        ConfigError: an Azure setting is missing.
    """
    given = address or os.environ.get(VARIABLE) or ""
    if not given:
        tracking = os.environ.get("MLFLOW_TRACKING_URI", "")
        given = tracking if _WORKSPACE.fullmatch(tracking) else "mlflow"
    if given == "mlflow":
        from vision_mlops.registry.mlflow_registry import MlflowRegistry

        return MlflowRegistry()
    if given == "azure":
        return _azure("workspace")
    if found := _WORKSPACE.fullmatch(given):
        return _azure("workspace", **found.groupdict())
    if found := _NEAR.fullmatch(given):
        if found["kind"] == "workspaces":
            return _azure("workspace", workspace_name=found["name"])
        return _azure("registry", registry_name=found["name"])
    origin = "" if address else f"{VARIABLE}="
    raise RegistryError(
        f"{origin}{given!r} is not a known registry",
        "use mlflow, azure, azureml://registries/NAME, azureml://workspaces/NAME, or"
        " azureml://subscriptions/S/resourceGroups/G/workspaces/W",
    )


def _azure(kind: Literal["workspace", "registry"], **given: Any) -> AzureRegistry:
    from vision_mlops.azure.clients import ml_client, registry_client
    from vision_mlops.config.azure_settings import AzureSettings
    from vision_mlops.registry.azureml.azureml_registry import AzureRegistry

    settings = AzureSettings.load(**given)
    connect = ml_client if kind == "workspace" else registry_client
    return AzureRegistry(lambda: connect(settings), f"{kind} {getattr(settings, f'{kind}_name')}")
