"""Endpoints in Azure, as their targets list them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from vision_mlops.endpoints.contract import Endpoint, Target, endpoint_name
from vision_mlops.endpoints.targets import forget, open_target
from vision_mlops.teardown import prices
from vision_mlops.teardown.idle_endpoints import why_idle
from vision_mlops.teardown.made_things import FREE, MadeThing, Search

_KINDS = {
    "managed": "online endpoint",
    "kubernetes-endpoint": "online endpoint",
    "batch": "batch endpoint",
    "aci": "container group",
    "aks": "aks endpoint",
}
OpenTarget = Callable[[str], Target]


def endpoints_of(target: str, search: Search, open_: OpenTarget = open_target) -> list[MadeThing]:
    """The endpoints that this package created on a target. Raises MlopsError."""
    place = open_(target)
    found = []
    for endpoint in place.endpoints():
        wanted = not search.workload or _workloads(endpoint) == {search.workload}
        idle = why_idle(search.settings, endpoint.name, search.idle_days) if target == "managed" and wanted else ""
        found.append(
            MadeThing(
                _KINDS[target],
                endpoint.name,
                _detail(endpoint),
                _workloads(endpoint),
                _cost(endpoint),
                partial(_remove, place, endpoint.name),
                idle,
            )
        )
    return found


def _remove(target: Target, name: str) -> None:
    target.delete(name)
    forget(name, target.name)


def _workloads(endpoint: Endpoint) -> frozenset[str]:
    """The workloads of an endpoint: models are named after them, and an endpoint without deployments after its model."""
    models = {deployment.model for deployment in endpoint.deployments if deployment.model}
    return frozenset(models or {endpoint_name(endpoint.name)})


def _detail(endpoint: Endpoint) -> str:
    parts = [
        f"{item.reference}, {item.instances} x {item.machine}" if item.machine else item.reference
        for item in endpoint.deployments
    ]
    return f"{endpoint.target}: {'; '.join(parts) or 'no deployment'}"


def _cost(endpoint: Endpoint) -> float | None:
    """The cost of its machines; those of a Kubernetes cluster are paid for with the cluster."""
    if endpoint.target not in ("managed", "aci"):
        return FREE
    costs = [prices.of_machines(item.machine, item.instances) for item in endpoint.deployments]
    known = [cost for cost in costs if cost is not None]
    return round(sum(known), 2) if len(known) == len(costs) else None
