"""Endpoints in Azure, as their targets list them, and whether those of Azure ML have had requests recently."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial

from vision_mlops.azure.resource_manager import ResourceManager
from vision_mlops.config.azure_settings import AzureSettings
from vision_mlops.core.errors import AzureError
from vision_mlops.endpoints.contract import Endpoint, Target, endpoint_name
from vision_mlops.endpoints.targets import forget, open_target
from vision_mlops.teardown import prices
from vision_mlops.teardown.made_things import FREE, MadeThing, Search

_KINDS = {
    "managed": "online endpoint",
    "kubernetes-endpoint": "online endpoint",
    "batch": "batch endpoint",
    "aci": "container group",
    "aks": "aks endpoint",
}
METRIC = "RequestsPerMinute"
"""Metric of Azure Monitor that counts the requests of an online endpoint."""
_METRICS, _ENDPOINTS = "2023-10-01", "2023-10-01"
OpenTarget = Callable[[str], Target]


def endpoints_of(target: str, search: Search, open_: OpenTarget = open_target) -> list[MadeThing]:
    """Return the endpoints that this package created on a target. Raises MlopsError."""
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


def why_idle(settings: AzureSettings, endpoint: str, days: int, now: datetime | None = None) -> str:
    """Return why an endpoint counts as idle; empty if it is used, younger than ``days``, or the metrics may not be read.

    Raises:
        AzureError: Azure cannot be reached.
    """
    moment = now or datetime.now(UTC)
    reads = ResourceManager(settings)
    path = f"{reads.workspace}/onlineEndpoints/{endpoint}"
    since = moment - timedelta(days=days)
    try:
        made = reads.get(f"endpoint {endpoint!r}", path, _ENDPOINTS).get("systemData", {}).get("createdAt")
        if made and datetime.fromisoformat(made) > since:
            return ""
        span = f"{since:%Y-%m-%dT%H:%M:%SZ}/{moment:%Y-%m-%dT%H:%M:%SZ}"
        query = {"metricnames": METRIC, "timespan": span, "interval": "P1D", "aggregation": "Total"}
        found = reads.get(
            f"requests of endpoint {endpoint!r}", f"{path}/providers/Microsoft.Insights/metrics", _METRICS, **query
        )
    except AzureError as error:
        if not error.status:
            raise
        return ""  # it exists, but nobody knows whether it is idle
    finally:
        reads.close()
    values = [
        float(point.get("total") or 0)
        for metric in found.get("value", [])
        for series in metric.get("timeseries", [])
        for point in series.get("data", [])
    ]
    return f"no request in {days} days" if not sum(values) else ""


def _remove(target: Target, name: str) -> None:
    target.delete(name)
    forget(name, target.name)


def _workloads(endpoint: Endpoint) -> frozenset[str]:
    """Return the workloads of an endpoint: models are named after them, and without deployments the endpoint is."""
    models = {deployment.model for deployment in endpoint.deployments if deployment.model}
    return frozenset(models or {endpoint_name(endpoint.name)})


def _detail(endpoint: Endpoint) -> str:
    parts = [
        f"{item.reference}, {item.instances} x {item.machine}" if item.machine else item.reference
        for item in endpoint.deployments
    ]
    return f"{endpoint.target}: {'; '.join(parts) or 'no deployment'}"


def _cost(endpoint: Endpoint) -> float | None:
    """Return the cost of its machines; those of a Kubernetes cluster are paid for with the cluster."""
    if endpoint.target not in ("managed", "aci"):
        return FREE
    costs = [prices.of_machines(item.machine, item.instances) for item in endpoint.deployments]
    known = [cost for cost in costs if cost is not None]
    return round(sum(known), 2) if len(known) == len(costs) else None
