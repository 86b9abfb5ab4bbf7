"""The current state of an endpoint, in the terms of all targets, from its objects in the cluster."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from vision_mlops.endpoints.aks import gateway_routes
from vision_mlops.endpoints.aks.cluster import KubernetesCluster
from vision_mlops.endpoints.aks.endpoint_condition import condition_of
from vision_mlops.endpoints.aks.endpoint_definition import definition_of
from vision_mlops.endpoints.aks.manifests import EndpointManifest, Manifest, route_shares
from vision_mlops.endpoints.contract import Deployment, Endpoint, EndpointStatus


def endpoint_of(cluster: KubernetesCluster, deployments: Sequence[Manifest]) -> Endpoint:
    """Return the endpoint of some Deployments, of which there is only one unless it is behind a Gateway."""
    definition = definition_of(deployments[0])
    url, problem = address_of(cluster, definition)
    tags, shares = gateway_routes.tags_of(deployments[0]), {definition.deployment: 100}
    if definition.gateway:
        route = gateway_routes.read_route(cluster, definition)
        tags, shares = gateway_routes.tags_of(route), route_shares(route, definition.endpoint)
        problem = problem if route else "it has no route: deploy it again"
    served = tuple(_deployment(cluster, item, shares) for item in deployments)
    state = _worst([item.state for item in served if item.traffic])
    if state is EndpointStatus.FAILED and any(
        (item.get("status") or {}).get("availableReplicas") for item in deployments
    ):
        problem = "its former version is still served"
    return Endpoint(definition.endpoint, "aks", state, url, "key", served, problem, tags)


def _deployment(cluster: KubernetesCluster, manifest: Manifest, shares: Mapping[str, int]) -> Deployment:
    definition, condition = definition_of(manifest), condition_of(cluster, manifest)
    return Deployment(
        definition.deployment, definition.model, definition.version, condition.state,
        shares.get(definition.deployment, 0), instances=int(manifest["spec"].get("replicas", 1)),
        problem=condition.problem,
    )  # fmt: skip


def address_of(cluster: KubernetesCluster, definition: EndpointManifest) -> tuple[str, str]:
    """Return its address, and the problem if it has none."""
    if definition.gateway:
        return gateway_routes.route_address(cluster, definition)
    if definition.host:
        return f"https://{definition.host}/score", ""
    service = cluster.get("Service", definition.endpoint, definition.namespace)
    if service is None:
        return "", "its Service does not exist: deploy it again"
    if service["spec"].get("type") != "LoadBalancer":
        return "", "it can only be called from within the cluster"
    for entry in ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or []:
        if address := entry.get("ip") or entry.get("hostname"):
            port = "" if definition.port == 80 else f":{definition.port}"
            host = f"[{address}]" if ":" in address else address
            return f"http://{host}{port}/score", ""
    return "", "the load balancer has no address yet"


def _worst(states: Sequence[EndpointStatus]) -> EndpointStatus:
    """Return the state of an endpoint, from those of its deployments with traffic."""
    order = (EndpointStatus.FAILED, EndpointStatus.CHANGING, EndpointStatus.STOPPED, EndpointStatus.READY)
    return min(states, key=order.index, default=EndpointStatus.FAILED)
