"""The target ``aks``: deploy, look at and delete endpoints in a Kubernetes cluster."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any

from vision_mlops.config.cluster_settings import DOMAIN, ClusterSettings, load_cluster_settings
from vision_mlops.core.errors import DeploymentError
from vision_mlops.endpoints.aks import cluster_keys as secret_keys
from vision_mlops.endpoints.aks.cluster import KubernetesCluster
from vision_mlops.endpoints.aks.cluster_errors import ClusterError
from vision_mlops.endpoints.aks.cluster_update import ClusterUpdate, remove
from vision_mlops.endpoints.aks.endpoint_condition import condition_of, current_pods, last_lines
from vision_mlops.endpoints.aks.manifests import (
    DEFINITION,
    INSTANCE,
    MANAGED_BY,
    OURS,
    TAGS,
    EndpointManifest,
    Manifest,
    render_text,
    selector_of,
)
from vision_mlops.endpoints.contract import Access, Counts, Deployment, DeploymentRequest, Endpoint, EndpointStatus, Say
from vision_mlops.endpoints.inferencing_image import baked_image

_TIMEOUT_SECONDS = 600  # a node that the autoscaler adds takes some minutes
_SETTINGS = ("ingress_class", "cluster_issuer", "egress")
"""Settings that an update takes where they are set; the others decide what a new endpoint is."""
_TAGS_MANAGER = "mlops-tags"
"""Owns the tags, so that a deploy, which does not name them, leaves them."""


def open_target() -> AksTarget:
    """The target; the cluster is looked up when it is first used."""
    return AksTarget()


class AksTarget:
    """Endpoints in a Kubernetes cluster; a new version is a rolling update in place of the old one."""

    name = "aks"
    splits_traffic = False
    mirrors_at_most = 0
    options = frozenset(
        {"port", "workers", "image", "instances", "cpu", "memory_gb", "namespace", "host", "environment", "timeout_s"}
    )

    @cached_property
    def _settings(self) -> ClusterSettings:
        return load_cluster_settings()

    @cached_property
    def _cluster(self) -> KubernetesCluster:
        return KubernetesCluster(self._settings.context)

    def deploy(self, request: DeploymentRequest, say: Say) -> Endpoint:
        """See :class:`~vision_mlops.endpoints.contract.Target`.

        What is not said of an endpoint that is there stays as it was, its address first.
        """
        image = image_of(request, self._settings)
        live = self._live(request.endpoint)
        self._check_place(request, live)
        namespace = request.options.namespace or (live["metadata"]["namespace"] if live else self._namespace)
        definition = define(request, self._settings, namespace, image, _definition(live) if live else None)
        ClusterUpdate(self._cluster, definition, say).run()
        return self.endpoint(request.endpoint)

    def render(self, request: DeploymentRequest) -> str:
        """The manifests of a deployment as YAML, without the keys; no cluster is asked. Raises DeploymentError."""
        namespace = request.options.namespace or self._settings.namespace or "default"
        return render_text(define(request, self._settings, namespace, image_of(request, self._settings), None))

    def endpoints(self) -> list[Endpoint]:
        """See :class:`~vision_mlops.endpoints.contract.Target`."""
        return sorted(map(self._endpoint, self._deployments(OURS)), key=lambda endpoint: endpoint.name)

    def endpoint(self, name: str) -> Endpoint:
        """See :class:`~vision_mlops.endpoints.contract.Target`."""
        return self._endpoint(self._found(name))

    def access(self, name: str) -> Access:
        """See :class:`~vision_mlops.endpoints.contract.Target`."""
        found = self._found(name)
        definition = _definition(found)
        url, problem = self._address(definition)
        if not url:
            raise DeploymentError(
                f"endpoint {name!r} has no address that this machine can call: {problem}",
                f"kubectl port-forward --namespace {definition.namespace} service/{name} 8000:{definition.port} brings it "
                f"to http://127.0.0.1:8000/score; mlops endpoint keys {name} --out FILE has the key for X-Api-Key",
            )
        return Access(url, {"X-Api-Key": secret_keys.read_keys(self._cluster, definition)["primary"]})

    def logs(self, name: str, deployment: str, lines: int) -> str:
        """See :class:`~vision_mlops.endpoints.contract.Target`; of each pod."""
        self.endpoint(name).deployment(deployment)
        pods = current_pods(self._cluster, self._found(name))
        texts = {pod["metadata"]["name"]: last_lines(self._cluster, pod, lines) for pod in reversed(pods)}
        if not texts:
            raise DeploymentError(f"{deployment} of {name!r} has no pods", f"mlops endpoint show {name} says why")
        if len(texts) == 1:
            return next(iter(texts.values()))
        return "\n".join(f"==> {pod} <==\n{text}" for pod, text in texts.items())

    def set_traffic(self, name: str, traffic: Mapping[str, int], mirror: Mapping[str, int]) -> Endpoint:
        """Refused: there is one deployment."""
        raise DeploymentError("an endpoint on aks has one deployment", "deploy another version to take its place")

    def counts(self, name: str) -> Mapping[str, Counts] | None:
        """None: a Service does not count. The server's /metrics does, for each pod."""
        return None

    def set_tags(self, name: str, tags: Mapping[str, str]) -> None:
        """See :class:`~vision_mlops.endpoints.contract.Target`."""
        found = self._found(name)
        metadata: dict[str, Any] = {"name": name, "namespace": found["metadata"]["namespace"]}
        if tags:
            metadata["annotations"] = {TAGS: json.dumps(dict(tags), sort_keys=True)}
        manifest = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata}
        self._cluster.apply(manifest, manager=_TAGS_MANAGER, force=True)

    def keys(self, name: str) -> Mapping[str, str]:
        """See :class:`~vision_mlops.endpoints.contract.Target`."""
        return secret_keys.read_keys(self._cluster, _definition(self._found(name)))

    def rotate_key(self, name: str, which: str) -> None:
        """See :class:`~vision_mlops.endpoints.contract.Target`; the pods have the new one within about a minute."""
        secret_keys.rotate(self._cluster, _definition(self._found(name)), which)

    def delete_deployment(self, name: str, deployment: str) -> None:
        """Refused: there is one deployment."""
        raise DeploymentError("an endpoint on aks has one deployment", f"mlops endpoint delete {name}")

    def delete(self, name: str) -> None:
        """See :class:`~vision_mlops.endpoints.contract.Target`; the namespace stays."""
        remove(self._cluster, self._found(name)["metadata"]["namespace"], name)

    @property
    def _namespace(self) -> str:
        return self._settings.namespace or self._cluster.namespace

    def _deployments(self, labels: str) -> list[Manifest]:
        """Deployments of all namespaces, or of one where that is set or the others may not be seen."""
        if self._settings.namespace:
            return self._cluster.list("Deployment", self._settings.namespace, labels)
        try:
            return self._cluster.list("Deployment", None, labels)
        except ClusterError as error:
            if error.status != 403:
                raise
            return self._cluster.list("Deployment", self._cluster.namespace, labels)

    def _live(self, name: str) -> Manifest | None:
        found = self._deployments(selector_of(name))
        if len(found) > 1:
            places = " and ".join(sorted(item["metadata"]["namespace"] for item in found))
            raise DeploymentError(
                f"endpoint {name!r} is in the namespaces {places}", "say which: MLOPS_AKS_NAMESPACE=NAME"
            )
        return found[0] if found else None

    def _found(self, name: str) -> Manifest:
        found = self._live(name)
        if found is None:
            where = f"namespace {self._namespace}" if self._settings.namespace else "what of the cluster may be seen"
            raise DeploymentError(
                f"there is no endpoint {name!r} in {where}",
                "MLOPS_AKS_NAMESPACE names another namespace, MLOPS_AKS_CONTEXT another cluster",
            )
        return found

    def _check_place(self, request: DeploymentRequest, live: Manifest | None) -> None:
        """Refuse what would make a second endpoint of the name, or take over a Deployment that is not ours."""
        wanted = request.options.namespace
        if live is not None:
            there = live["metadata"]["namespace"]
            if wanted and wanted != there:
                raise DeploymentError(
                    f"endpoint {request.endpoint!r} is in namespace {there}",
                    f"leave --namespace {wanted} out, or delete it",
                )
            return
        namespace = wanted or self._namespace
        other = self._cluster.get("Deployment", request.endpoint, namespace)
        labels = (other or {}).get("metadata", {}).get("labels") or {}
        if other is not None and (labels.get(MANAGED_BY), labels.get(INSTANCE)) != ("mlops", request.endpoint):
            raise DeploymentError(
                f"Deployment {request.endpoint} in namespace {namespace} was not made by mlops",
                "choose another --endpoint or --namespace",
            )

    def _endpoint(self, deployment: Manifest) -> Endpoint:
        definition = _definition(deployment)
        condition = condition_of(self._cluster, deployment)
        url, problem = self._address(definition)
        if condition.state is EndpointStatus.FAILED and (deployment.get("status") or {}).get("availableReplicas"):
            problem = "its former version still serves"
        annotations = deployment["metadata"].get("annotations") or {}
        served = Deployment(
            definition.deployment, definition.model, definition.version, condition.state, 100,
            instances=int(deployment["spec"].get("replicas", 1)), problem=condition.problem,
        )  # fmt: skip
        tags = json.loads(annotations.get(TAGS, "{}"))
        return Endpoint(definition.endpoint, self.name, condition.state, url, "key", (served,), problem, tags)

    def _address(self, definition: EndpointManifest) -> tuple[str, str]:
        """Where it is called, and what is to be said about it."""
        if definition.host:
            return f"https://{definition.host}/score", ""
        service = self._cluster.get("Service", definition.endpoint, definition.namespace)
        if service is None:
            return "", "its Service is gone: deploy it again"
        if service["spec"].get("type") != "LoadBalancer":
            return "", "it can be called from within the cluster only"
        for entry in ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or []:
            if address := entry.get("ip") or entry.get("hostname"):
                port = "" if definition.port == 80 else f":{definition.port}"
                host = f"[{address}]" if ":" in address else address
                return f"http://{host}{port}/score", ""
        return "", "the load balancer has no address yet"


def image_of(request: DeploymentRequest, settings: ClusterSettings) -> str:
    """The image to run: the one that is named, else the one that `mlops deploy --to docker --bake` makes of the version.

    Raises:
        DeploymentError: neither an image nor a registry is named, or the version has no image of its own.
    """
    if request.options.image:
        return request.options.image
    if not settings.container_registry:
        raise DeploymentError(
            "no image to run: neither --image nor MLOPS_AZURE_CONTAINER_REGISTRY is given",
            "export MLOPS_AZURE_CONTAINER_REGISTRY=crvision.azurecr.io; mlops deploy --to docker --bake makes its image",
        )
    return baked_image(settings.container_registry, request.model)


def define(
    request: DeploymentRequest, settings: ClusterSettings, namespace: str, image: str, former: EndpointManifest | None
) -> EndpointManifest:
    """What an endpoint shall be: options, else what it was, else settings and defaults."""
    options, model = request.options, request.model
    if options.host and not re.fullmatch(DOMAIN, options.host):
        raise DeploymentError(
            f"--host {options.host}: not the name of a host", "write for example textile.ml.example.org"
        )
    facts: dict[str, Any] = {
        "endpoint": request.endpoint, "namespace": namespace, "deployment": request.deployment, "image": image,
        "model": model.name, "version": str(model.version), "bundle_id": model.bundle_id,
        "deadline_s": int(options.timeout_s or _TIMEOUT_SECONDS),
    }  # fmt: skip
    set_now = {name: getattr(settings, name) for name in _SETTINGS if name in settings.model_fields_set}
    if former is None:
        host = f"{request.endpoint}.{settings.domain}" if settings.domain else ""
        base = EndpointManifest(**facts, **set_now, host=host, expose=settings.expose)
    else:
        base = replace(former, **facts, **set_now)
    said: dict[str, Any] = {
        "host": options.host or None, "port": options.port, "cpu": options.cpu, "memory_gb": options.memory_gb,
        "workers": options.workers, "instances": options.instances, "environment": dict(options.environment) or None,
    }  # fmt: skip
    made = replace(base, **{name: value for name, value in said.items() if value is not None})
    most = settings.max_instances or max(made.max_instances, 2 * made.instances)
    if most < made.instances:
        raise DeploymentError(
            f"--instances {made.instances} is more than MLOPS_AKS_MAX_INSTANCES={most}",
            "raise the one or lower the other",
        )
    return replace(made, max_instances=most)


def _definition(deployment: Manifest) -> EndpointManifest:
    """What a Deployment was made of. Raises DeploymentError."""
    metadata = deployment["metadata"]
    try:
        return EndpointManifest.from_json((metadata.get("annotations") or {})[DEFINITION])
    except (KeyError, TypeError, ValueError) as error:
        raise DeploymentError(
            f"Deployment {metadata['name']} in namespace {metadata['namespace']} has lost its annotation {DEFINITION}",
            f"kubectl delete deployment {metadata['name']} --namespace {metadata['namespace']}, then deploy it again",
        ) from error
