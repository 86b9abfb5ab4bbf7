"""The target ``aks``: endpoints in a Kubernetes cluster."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from vision_mlops.config.cluster_settings import ClusterSettings
from vision_mlops.core.errors import DeploymentError
from vision_mlops.endpoints.aks import cluster_keys as secret_keys
from vision_mlops.endpoints.aks import gateway_routes
from vision_mlops.endpoints.aks.cluster import KubernetesCluster
from vision_mlops.endpoints.aks.cluster_errors import ClusterError
from vision_mlops.endpoints.aks.cluster_update import ClusterUpdate, remove
from vision_mlops.endpoints.aks.endpoint_condition import current_pods, last_lines
from vision_mlops.endpoints.aks.endpoint_definition import define, definition_of, image_of
from vision_mlops.endpoints.aks.endpoint_view import address_of, endpoint_of
from vision_mlops.endpoints.aks.manifests import (
    INSTANCE,
    MANAGED_BY,
    OURS,
    ROUTE,
    TAGS,
    EndpointManifest,
    Manifest,
    render_text,
    selector_of,
)
from vision_mlops.endpoints.contract import (
    Access,
    DeploymentRequest,
    Endpoint,
    Say,
    Target,
    check_no_traffic,
    check_traffic,
)

_TAGS_MANAGER = "mlops-tags"
"""Owner of the tags of an endpoint without a Gateway, so that a deployment, which does not set them, keeps them."""


def open_target() -> AksTarget:
    """Return the target; the cluster is looked up when it is first used."""
    return AksTarget()


class AksTarget(Target):
    """Endpoints in a Kubernetes cluster.

    A new version replaces the old one in a rolling update; behind a Gateway it is an additional deployment.
    """

    name = "aks"
    options = frozenset(
        {"port", "workers", "image", "instances", "cpu", "memory_gb", "namespace", "host", "environment", "timeout_s"}
    )

    @cached_property
    def splits_traffic(self) -> bool:
        """Whether new endpoints are behind a Gateway."""
        return self._settings.gateway is not None

    @cached_property
    def _settings(self) -> ClusterSettings:
        return ClusterSettings.load()

    @cached_property
    def _cluster(self) -> KubernetesCluster:
        return KubernetesCluster(self._settings.context)

    def deploy(self, request: DeploymentRequest, say: Say) -> Endpoint:
        """See :class:`~vision_mlops.endpoints.contract.Target`.

        What the request does not mention of an existing endpoint stays the same, above all its address.
        """
        image = image_of(request, self._settings)
        live = self._live(request.endpoint)
        self._check_place(request, live)
        namespace = request.options.namespace or (live[0]["metadata"]["namespace"] if live else self._namespace)
        former = _former(live, request.deployment)
        definition = define(request, self._settings, namespace, image, former)
        if definition.gateway:
            gateway_routes.check_gateway(self._cluster, definition.gateway)
        ClusterUpdate(self._cluster, definition, say).run()
        if definition.gateway:
            self._bring_into_route(definition, live)
        return self.endpoint(request.endpoint)

    def render(self, request: DeploymentRequest) -> str:
        """Return the manifests as YAML, without the keys and without access to a cluster. Raises DeploymentError."""
        namespace = request.options.namespace or self._settings.namespace or "default"
        return render_text(define(request, self._settings, namespace, image_of(request, self._settings), None))

    def endpoints(self) -> list[Endpoint]:
        """See :class:`~vision_mlops.endpoints.contract.Target`."""
        groups: dict[tuple[str, str], list[Manifest]] = {}
        for item in self._deployments(OURS):
            metadata = item["metadata"]
            groups.setdefault((metadata["namespace"], metadata["labels"][INSTANCE]), []).append(item)
        return sorted(
            (endpoint_of(self._cluster, each) for each in groups.values()), key=lambda endpoint: endpoint.name
        )

    def endpoint(self, name: str) -> Endpoint:
        """See :class:`~vision_mlops.endpoints.contract.Target`."""
        return endpoint_of(self._cluster, self._found(name))

    def access(self, name: str) -> Access:
        """See :class:`~vision_mlops.endpoints.contract.Target`."""
        definition = definition_of(self._found(name)[0])
        url, problem = address_of(self._cluster, definition)
        if not url:
            raise DeploymentError(
                f"endpoint {name!r} has no address that this machine can call: {problem}",
                f"kubectl port-forward --namespace {definition.namespace} service/{definition.object_name}"
                f" 8000:{definition.port} makes it available at http://127.0.0.1:8000/score; mlops endpoint keys {name}"
                f" --on {self.name} --out FILE writes the key for X-Api-Key",
            )
        return Access(url, {"X-Api-Key": secret_keys.read_keys(self._cluster, definition)["primary"]})

    def logs(self, name: str, deployment: str, lines: int) -> str:
        """See :class:`~vision_mlops.endpoints.contract.Target`; the lines of each pod."""
        self.endpoint(name).deployment(deployment)
        found = next(item for item in self._found(name) if definition_of(item).deployment == deployment)
        pods = current_pods(self._cluster, found)
        texts = {pod["metadata"]["name"]: last_lines(self._cluster, pod, lines) for pod in reversed(pods)}
        if not texts:
            raise DeploymentError(
                f"{deployment} of {name!r} has no pods", f"mlops endpoint show {name} --on {self.name} says why"
            )
        if len(texts) == 1:
            return next(iter(texts.values()))
        return "\n".join(f"==> {pod} <==\n{text}" for pod, text in texts.items())

    def set_traffic(self, name: str, traffic: Mapping[str, int], mirror: Mapping[str, int]) -> Endpoint:
        """See :class:`~vision_mlops.endpoints.contract.Target`; refused unless the endpoint is behind a Gateway."""
        definitions = self._behind_gateway(name)
        check_traffic(self.endpoint(name), traffic, mirror)
        if any(mirror.values()):
            raise DeploymentError("an endpoint on aks cannot mirror requests", "remove --mirror")
        gateway_routes.change_route(self._cluster, definitions, shares=traffic)
        return self.endpoint(name)

    def set_tags(self, name: str, tags: Mapping[str, str]) -> None:
        """See :class:`~vision_mlops.endpoints.contract.Target`."""
        found = self._found(name)
        definitions = list(map(definition_of, found))
        if definitions[0].gateway:
            gateway_routes.change_route(self._cluster, definitions, tags=tags)
            return
        metadata: dict[str, Any] = {"name": name, "namespace": definitions[0].namespace}
        if tags:
            metadata["annotations"] = {TAGS: json.dumps(dict(tags), sort_keys=True)}
        manifest = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata}
        self._cluster.apply(manifest, manager=_TAGS_MANAGER, force=True)

    def keys(self, name: str) -> Mapping[str, str]:
        """See :class:`~vision_mlops.endpoints.contract.Target`."""
        return secret_keys.read_keys(self._cluster, definition_of(self._found(name)[0]))

    def rotate_key(self, name: str, which: str) -> None:
        """See :class:`~vision_mlops.endpoints.contract.Target`; the pods have the new key within about a minute."""
        secret_keys.rotate(self._cluster, definition_of(self._found(name)[0]), which)

    def delete_deployment(self, name: str, deployment: str) -> None:
        """See :class:`~vision_mlops.endpoints.contract.Target`; refused unless the endpoint is behind a Gateway."""
        definitions = self._behind_gateway(name)
        check_no_traffic(self.endpoint(name), deployment)
        left = [each for each in definitions if each.deployment != deployment]
        if left:
            gateway_routes.change_route(self._cluster, left)
        remove(self._cluster, definitions[0].namespace, selector_of(name, deployment))

    def delete(self, name: str) -> None:
        """See :class:`~vision_mlops.endpoints.contract.Target`; the namespace and the Gateway stay."""
        definition = definition_of(self._found(name)[0])
        if definition.gateway:
            self._cluster.delete(ROUTE, name, definition.namespace)
        remove(self._cluster, definition.namespace, selector_of(name))

    @property
    def _namespace(self) -> str:
        return self._settings.namespace or self._cluster.namespace

    def _bring_into_route(self, definition: EndpointManifest, before: Sequence[Manifest]) -> None:
        """Add a deployment to the route; the first of an endpoint gets all requests. If that fails, it is removed again."""
        name = definition.endpoint
        try:
            definitions = list(map(definition_of, self._found(name)))
            gateway_routes.change_route(self._cluster, definitions, first=definition.deployment)
            gateway_routes.wait_accepted(self._cluster, definition)
        except BaseException:
            if not any(definition_of(item).deployment == definition.deployment for item in before):
                if before:
                    self.delete_deployment(name, definition.deployment)
                else:
                    self.delete(name)
            raise

    def _behind_gateway(self, name: str) -> list[EndpointManifest]:
        definitions = list(map(definition_of, self._found(name)))
        if not definitions[0].gateway:
            raise DeploymentError(
                f"endpoint {name!r} on aks has one deployment, as it is not behind a Gateway",
                "deploy another version in its place, or delete it and deploy it again with MLOPS_AKS_GATEWAY",
            )
        return definitions

    def _deployments(self, labels: str) -> list[Manifest]:
        """Return deployments of all namespaces, or of one if that is set or the others may not be read."""
        if self._settings.namespace:
            return self._cluster.list("Deployment", self._settings.namespace, labels)
        try:
            return self._cluster.list("Deployment", None, labels)
        except ClusterError as error:
            if error.status != 403:
                raise
            return self._cluster.list("Deployment", self._cluster.namespace, labels)

    def _live(self, name: str) -> list[Manifest]:
        """Return the Deployments of an endpoint, oldest first; none if it does not exist."""
        found = self._deployments(selector_of(name))
        places = sorted({item["metadata"]["namespace"] for item in found})
        if len(places) > 1:
            raise DeploymentError(
                f"endpoint {name!r} is in the namespaces {' and '.join(places)}",
                "choose one with MLOPS_AKS_NAMESPACE=NAME",
            )
        return sorted(found, key=lambda item: str(item["metadata"].get("creationTimestamp")))

    def _found(self, name: str) -> list[Manifest]:
        found = self._live(name)
        if not found:
            where = f"namespace {self._namespace}" if self._settings.namespace else "the visible part of the cluster"
            raise DeploymentError(
                f"no endpoint {name!r} exists in {where}",
                "MLOPS_AKS_NAMESPACE names another namespace, MLOPS_AKS_CONTEXT another cluster",
            )
        return found

    def _check_place(self, request: DeploymentRequest, live: Sequence[Manifest]) -> None:
        """Refuse to create a second endpoint of the name or one of another kind, or to replace what is not ours."""
        wanted = request.options.namespace
        if live:
            there = live[0]["metadata"]["namespace"]
            if wanted and wanted != there:
                raise DeploymentError(
                    f"endpoint {request.endpoint!r} is in namespace {there}",
                    f"remove --namespace {wanted}, or delete the endpoint first",
                )
            gateway = definition_of(live[0]).gateway
            if gateway and not self.splits_traffic:
                raise DeploymentError(
                    f"endpoint {request.endpoint!r} is behind Gateway {gateway}", f"export MLOPS_AKS_GATEWAY={gateway}"
                )
            if self.splits_traffic and not gateway:
                raise DeploymentError(
                    f"endpoint {request.endpoint!r} is not behind a Gateway, as MLOPS_AKS_GATEWAY asks",
                    "unset it to update the endpoint in place, or delete the endpoint first",
                )
            return
        namespace = wanted or self._namespace
        name = f"{request.endpoint}-{request.deployment}" if self.splits_traffic else request.endpoint
        other = self._cluster.get("Deployment", name, namespace)
        labels = (other or {}).get("metadata", {}).get("labels") or {}
        if other is not None and (labels.get(MANAGED_BY), labels.get(INSTANCE)) != ("mlops", request.endpoint):
            raise DeploymentError(
                f"Deployment {name} in namespace {namespace} was not created by mlops",
                "choose another --endpoint or --namespace",
            )


def _former(live: Sequence[Manifest], deployment: str) -> EndpointManifest | None:
    """Return the definition that a deployment had, or that a new one starts from: the newest of its endpoint."""
    definitions = list(map(definition_of, live))
    same = [each for each in definitions if each.deployment == deployment]
    found = same or definitions
    return found[-1] if found else None
