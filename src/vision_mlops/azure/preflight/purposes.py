"""What is about to be done in Azure, and what it needs: resource providers, actions, machines, and places to reach."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from vision_mlops.config.azure_settings import AzureSettings
from vision_mlops.core.errors import AzureError
from vision_mlops.core.text import nearest

_ML = "Microsoft.MachineLearningServices"
_WORKSPACE = f"{_ML}/workspaces"
_SCIENTIST = "AzureML Data Scientist"


@dataclass(frozen=True)
class NeededAction:
    """Something that the caller must be allowed to do, and the built-in role that allows it.

    Attributes:
        action: Its name in role definitions.
        role: The smallest role that allows it.
        at_workspace: Whether a role on the workspace is enough; otherwise the role must be on the resource group.
        only_warns: Whether the purpose works without it.
        why: What it is needed for.
    """

    action: str
    role: str
    at_workspace: bool = True
    only_warns: bool = False
    why: str = ""


@dataclass(frozen=True)
class Demand:
    """Machines of one size.

    Attributes:
        size: Size of a machine, such as ``Standard_DS3_v2``.
        machines: Number of machines.
        setting: The setting or option with that number.
        least: How many are needed for it to work at all.
        upgrade_reserve: Whether Azure reserves a fifth more for upgrades, as for managed endpoints.
        low_priority: Whether they count towards the quota of Spot machines.
        cluster: Name of the compute cluster that they belong to; empty for none.
        deployment: Endpoint and name of the online deployment that they belong to.
    """

    size: str
    machines: int
    setting: str
    least: int = 1
    upgrade_reserve: bool = False
    low_priority: bool = False
    cluster: str = ""
    deployment: tuple[str, str] | None = None

    def machines_with_reserve(self, least: bool = False) -> int:
        """Return the number of machines that need quota."""
        wanted = self.least if least else self.machines
        return math.ceil(1.2 * wanted - 1e-9) if self.upgrade_reserve else wanted


@dataclass(frozen=True)
class Purpose:
    """Something that is about to be done.

    Attributes:
        name: Value of ``mlops doctor --for``.
        providers: Resource providers that must be registered.
        actions: What the caller must be allowed to do.
        demands: Machines that are needed, by default those of the settings.
        workspace: Whether the workspace must exist.
        storage: Whether the data of the workspace must be reachable from here.
        registry: Whether images are pulled from or pushed to the Container Registry from here.
        region: Whether something is created in the region of the settings.
        names: Whether the names in the settings are checked.
    """

    name: str
    providers: tuple[str, ...]
    actions: tuple[NeededAction, ...] = ()
    demands: Callable[[AzureSettings], tuple[Demand, ...]] = field(default=lambda settings: ())
    workspace: bool = True
    storage: bool = False
    registry: bool = False
    region: bool = False
    names: bool = False

    def with_demands(self, *demands: Demand) -> Purpose:
        """Return the same purpose with other machines."""
        return replace(self, demands=lambda settings: demands)


def _cpu_cluster(settings: AzureSettings) -> tuple[Demand, ...]:
    return (
        Demand(
            settings.cpu_sku,
            settings.cpu_max_nodes,
            "MLOPS_AZURE_CPU_SKU",
            max(1, settings.cpu_min_nodes),
            low_priority=settings.cpu_tier == "low_priority",
            cluster=settings.cpu_cluster,
        ),
    )


def _clusters(settings: AzureSettings) -> tuple[Demand, ...]:
    if not settings.gpu_is_set:
        return _cpu_cluster(settings)
    gpu = Demand(
        settings.gpu_sku,
        settings.gpu_max_nodes,
        "MLOPS_AZURE_GPU_SKU",
        max(1, settings.gpu_min_nodes),
        low_priority=settings.gpu_tier == "low_priority",
        cluster=settings.gpu_cluster,
    )
    return (*_cpu_cluster(settings), gpu)


def managed_demand(
    settings: AzureSettings, instance_type: str = "", instances: int = 1, deployment: tuple[str, str] | None = None
) -> Demand:
    """Return the machines of a managed online deployment."""
    setting = "--instance-type" if instance_type else "MLOPS_AZURE_INSTANCE_TYPE"
    return Demand(
        instance_type or settings.instance_type,
        instances,
        setting,
        instances,
        upgrade_reserve=True,
        deployment=deployment,
    )


_JOBS = NeededAction(f"{_WORKSPACE}/jobs/write", _SCIENTIST, why="jobs")
_ONLINE = NeededAction(f"{_WORKSPACE}/onlineEndpoints/write", _SCIENTIST, why="online endpoints")
_BATCH = NeededAction(f"{_WORKSPACE}/batchEndpoints/write", _SCIENTIST, why="batch endpoints")
_CLUSTERS = NeededAction(
    f"{_WORKSPACE}/computes/write", "AzureML Compute Operator", only_warns=True, why="clusters that are missing"
)
_GROUPS = NeededAction(
    "Microsoft.ContainerInstance/containerGroups/write",
    "Azure Container Instances Contributor Role",
    at_workspace=False,
    why="container groups",
)
_SITES = NeededAction("Microsoft.Web/sites/write", "Website Contributor", at_workspace=False, why="web apps")
_PLANS = NeededAction(
    "Microsoft.Web/serverfarms/write", "Web Plan Contributor", at_workspace=False, why="plans of web apps"
)
_PUSH = NeededAction(
    "Microsoft.ContainerRegistry/registries/push/write", "AcrPush", at_workspace=False, why="images in the registry"
)
_ROLES = NeededAction(
    "Microsoft.Authorization/roleAssignments/write",
    "Role Based Access Control Administrator",
    at_workspace=False,
    why="the role assignments of infrastructure/up.sh",
)
_MAKE = NeededAction(
    "Microsoft.Resources/deployments/write",
    "Contributor",
    at_workspace=False,
    why="the resources of infrastructure/up.sh",
)


def _optional(*actions: NeededAction) -> tuple[NeededAction, ...]:
    return tuple(replace(action, only_warns=True) for action in actions)


PURPOSES = {
    purpose.name: purpose
    for purpose in (
        Purpose(
            "all",
            (
                _ML, "Microsoft.Storage", "Microsoft.KeyVault", "Microsoft.ContainerRegistry", "Microsoft.Insights",
                "Microsoft.ContainerInstance", "Microsoft.Web", "Microsoft.ManagedIdentity",
            ),
            (_JOBS, _ONLINE, _BATCH, _CLUSTERS, *_optional(_GROUPS, _SITES, _PLANS, _PUSH, _ROLES)),
            lambda settings: (*_clusters(settings), managed_demand(settings)),
            storage=True,
            registry=True,
            region=True,
            names=True,
        ),
        Purpose("jobs", (_ML, "Microsoft.Storage"), (_JOBS, _CLUSTERS), _clusters, storage=True),
        Purpose("managed", (_ML,), (_ONLINE,), lambda settings: (managed_demand(settings),), storage=True),
        Purpose("kubernetes-endpoint", (_ML,), (_ONLINE,), storage=True),
        Purpose("batch", (_ML, "Microsoft.Storage"), (_BATCH, _CLUSTERS), _cpu_cluster, storage=True),
        Purpose("publish", (_ML, "Microsoft.Storage"), (_BATCH, _CLUSTERS), _clusters, storage=True),
        Purpose("aci", ("Microsoft.ContainerInstance",), (_GROUPS,), workspace=False, region=True),
        Purpose("app", ("Microsoft.Web",), (_SITES, _PLANS), workspace=False, region=True),
        Purpose("images", ("Microsoft.ContainerRegistry",), (_PUSH,), workspace=False, registry=True),
        # up.sh registers the providers and creates the workspace.
        Purpose("infrastructure", (), (_MAKE, _ROLES), _clusters, workspace=False, region=True, names=True),
    )
}  # fmt: skip
"""All purposes by name."""


def purpose_of(name: str) -> Purpose:
    """Return a purpose by its name. Raises AzureError."""
    if name not in PURPOSES:
        raise AzureError(f"--for: unknown purpose {name!r}", nearest(name, PURPOSES))
    return PURPOSES[name]
