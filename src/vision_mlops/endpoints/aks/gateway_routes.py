"""The route of an endpoint behind a Gateway: the share of each deployment, and the address of the endpoint."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from vision_mlops.core.errors import DeploymentError
from vision_mlops.endpoints.aks.cluster import KubernetesCluster
from vision_mlops.endpoints.aks.cluster_errors import ClusterError
from vision_mlops.endpoints.aks.manifests import ROUTE, TAGS, EndpointManifest, Manifest, render_route, route_shares
from vision_mlops.endpoints.polling import polls

_ACCEPT_SECONDS = 30
_PORTS = {"HTTPS": 443, "HTTP": 80}


def check_gateway(cluster: KubernetesCluster, gateway: str) -> None:
    """Refuse to deploy behind a Gateway that does not exist. Raises DeploymentError."""
    namespace, _, name = gateway.partition("/")
    try:
        found = cluster.get("Gateway", name, namespace)
    except ClusterError as error:
        if error.status == 403:  # it may exist, but only be visible to others
            return
        raise
    if found is None:
        raise DeploymentError(
            f"namespace {namespace} has no Gateway {name}",
            "`kubectl get gateways --all-namespaces` lists all; set MLOPS_AKS_GATEWAY to one. A cluster"
            " without any may lack the Gateway API: infrastructure/aks/create.sh --host creates one",
        )


def read_route(cluster: KubernetesCluster, definition: EndpointManifest) -> Manifest | None:
    """Return the route of an endpoint; None if it does not exist. Raises ClusterError."""
    return cluster.get(ROUTE, definition.endpoint, definition.namespace)


def change_route(
    cluster: KubernetesCluster,
    definitions: Sequence[EndpointManifest],
    *,
    shares: Mapping[str, int] | None = None,
    first: str = "",
    tags: Mapping[str, str] | None = None,
) -> None:
    """Write the route of an endpoint as one change; what is not given stays.

    Args:
        cluster: Where the endpoint is.
        definitions: Definitions of all its deployments.
        shares: Percentage of the requests by deployment.
        first: Deployment that gets all requests where none has any yet.
        tags: Tags of the endpoint.

    Raises:
        ClusterError: the cluster refuses.
    """
    route = read_route(cluster, definitions[0])
    kept = route_shares(route, definitions[0].endpoint) or ({first: 100} if first else {})
    cluster.apply(
        render_route(definitions, kept if shares is None else shares, tags_of(route) if tags is None else tags)
    )


def tags_of(owner: Manifest | None) -> dict[str, str]:
    """Return the tags of an endpoint, which are stored with its route, or without one with its Deployment."""
    annotations = ((owner or {}).get("metadata") or {}).get("annotations") or {}
    tags: dict[str, str] = json.loads(annotations.get(TAGS, "{}"))
    return tags


def route_address(cluster: KubernetesCluster, definition: EndpointManifest) -> tuple[str, str]:
    """Return the address of an endpoint behind a Gateway, and the problem if it has none."""
    namespace, _, name = definition.gateway.partition("/")
    try:
        gateway = cluster.get("Gateway", name, namespace)
    except ClusterError as error:
        if error.status != 403:
            raise
        return "", f"its Gateway {definition.gateway} may not be read"
    if gateway is None:
        return "", f"its Gateway {definition.gateway} no longer exists"
    listener = gateway["spec"]["listeners"][0]
    host = definition.host or listener.get("hostname") or ""
    if not host or host.startswith("*."):
        addresses = (gateway.get("status") or {}).get("addresses") or []
        if not addresses:
            return "", f"its Gateway {definition.gateway} has no address yet"
        host = str(addresses[0]["value"])
        host = f"[{host}]" if ":" in host else host
    protocol, port = listener["protocol"], int(listener["port"])
    suffix = "" if _PORTS.get(protocol) == port else f":{port}"
    path = "" if definition.host else f"/{definition.endpoint}"
    return f"{str(protocol).lower()}://{host}{suffix}{path}/score", ""


def wait_accepted(cluster: KubernetesCluster, definition: EndpointManifest) -> None:
    """Wait until the Gateway has accepted the route. One that does not report that in time may still do so.

    Raises:
        DeploymentError: the Gateway refuses the route.
    """
    for _ in polls(_ACCEPT_SECONDS, 0.2, 0.2):
        route = read_route(cluster, definition) or {"metadata": {}}
        generation = int(route["metadata"].get("generation") or 0)
        for condition in _conditions(route):
            if int(condition.get("observedGeneration") or 0) < generation:
                continue
            if condition["status"] == "False":
                raise DeploymentError(
                    f"Gateway {definition.gateway} does not accept the route of {definition.endpoint!r}:"
                    f" {condition.get('message') or condition.get('reason')}",
                    "check the host names and namespaces from which its listeners allow routes",
                )
            if condition["type"] == "Accepted":
                return


def _conditions(route: Manifest) -> list[Manifest]:
    parents = (route.get("status") or {}).get("parents") or []
    found = [item for parent in parents for item in parent.get("conditions") or []]
    # A refusal comes before an acceptance.
    return sorted(found, key=lambda item: item["status"] != "False")
