"""Updates an endpoint in a cluster: apply, wait, and roll back if it does not become ready."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from vision_mlops.core.errors import DeploymentError, MlopsError
from vision_mlops.endpoints.aks.cluster import PARTS, KubernetesCluster
from vision_mlops.endpoints.aks.cluster_errors import ClusterError
from vision_mlops.endpoints.aks.cluster_keys import ensure_keys
from vision_mlops.endpoints.aks.endpoint_condition import Cause, Condition, condition_of, last_lines
from vision_mlops.endpoints.aks.manifests import TAGS, EndpointManifest, Manifest, render
from vision_mlops.endpoints.contract import EndpointStatus, Say
from vision_mlops.endpoints.polling import polls

_LOG_LINES = 20
_ADDRESS_SECONDS = 180
_DELETE_SECONDS = 180
_SERVER_FIELDS = ("uid", "resourceVersion", "generation", "creationTimestamp", "managedFields", "selfLink")


class ClusterUpdate:
    """One deployment.

    Args:
        cluster: Where to deploy.
        definition: The wanted state.
        say: Gets progress messages.
    """

    def __init__(self, cluster: KubernetesCluster, definition: EndpointManifest, say: Say) -> None:
        self._cluster, self._wanted, self._say = cluster, definition, say
        self._touched: set[tuple[str, str]] = set()
        self._made_keys = False

    def run(self) -> None:
        """Apply all objects and wait. If anything goes wrong, the former state is restored.

        Raises:
            DeploymentError: the cluster refuses, or the deployment does not become ready.
        """
        wanted = self._wanted
        self._ensure_namespace()
        before = objects_of(self._cluster, wanted.namespace, wanted.selector)
        updates = any(item["kind"] == "Deployment" for item in before)
        try:
            self._made_keys = ensure_keys(self._cluster, wanted)
            made = [item for item in render(wanted) if item["kind"] != "Namespace"]
            for manifest in made:
                self._cluster.apply(manifest)
                self._touched.add(_key(manifest))
            self._drop(before, made)
            self._wait_ready()
        except BaseException as error:
            note = self._go_back(before, updates=updates)
            if isinstance(error, MlopsError):
                raise DeploymentError(f"{error.message}\n  {note}", error.hint) from error
            raise
        if not wanted.host and not wanted.gateway and wanted.expose == "internal":
            self._wait_address()

    def _ensure_namespace(self) -> None:
        """Create the namespace if it does not exist. If it may not be read, it is assumed to exist."""
        namespace = self._wanted.namespace
        try:
            if self._cluster.get("Namespace", namespace) is not None:
                return
        except ClusterError as error:
            if error.status == 403:
                return
            raise
        self._say(f"creating namespace {namespace}")
        self._cluster.apply(next(item for item in render(self._wanted) if item["kind"] == "Namespace"))

    def _drop(self, before: Iterable[Manifest], made: Iterable[Manifest]) -> None:
        """Delete what no longer belongs to the endpoint, such as the Ingress of a host."""
        names = {_key(item) for item in made}
        for item in before:
            if item["kind"] != "Secret" and _key(item) not in names:
                self._touched.add(_key(item))
                self._cluster.delete(item["kind"], item["metadata"]["name"], self._wanted.namespace)

    def _wait_ready(self) -> None:
        wanted = self._wanted
        self._say(f"waiting for {wanted.deployment} in namespace {wanted.namespace} ({wanted.image})")
        told, condition = "", None
        for late in polls(wanted.deadline_s, 0.2, 2.0):
            try:
                condition = self._look()
                if condition.state is EndpointStatus.READY:
                    return
                if condition.cause is not None and condition.cause.final:
                    raise self._failed(condition.cause)
                if condition.problem != told:
                    told = condition.problem
                    self._say(told)
            except ClusterError as error:
                if error.status not in (0, 429) and error.status < 500:
                    raise
            if late:
                cause = condition.cause if condition and condition.cause else Cause("the cluster did not respond")
                raise self._failed(cause, f"within {wanted.deadline_s} s")

    def _look(self) -> Condition:
        found = self._cluster.get("Deployment", self._wanted.object_name, self._wanted.namespace)
        if found is None:
            raise DeploymentError(
                f"Deployment {self._wanted.object_name} was deleted by someone else", "deploy it again"
            )
        return condition_of(self._cluster, found)

    def _failed(self, cause: Cause, when: str = "") -> DeploymentError:
        text = " ".join(filter(None, [f"{self._wanted.deployment} did not become ready", when])) + f": {cause.text}"
        if cause.pod and (log := self._log(cause.pod)):
            text += "\n  its log ends with\n" + "\n".join(f"    {line}" for line in log.splitlines())
        return DeploymentError(text, cause.hint)

    def _log(self, name: str) -> str:
        try:
            pod = self._cluster.get("Pod", name, self._wanted.namespace)
            return last_lines(self._cluster, pod, _LOG_LINES) if pod else ""
        except ClusterError as error:
            return f"(no log: {error.message})"

    def _go_back(self, before: list[Manifest], *, updates: bool) -> str:
        """Restore what was changed; returns what to say about it."""
        wanted = self._wanted
        self._say("rolling back to the former version" if updates else f"removing {wanted.deployment}")
        known = {_key(item) for item in before}
        try:
            for item in objects_of(self._cluster, wanted.namespace, wanted.selector):
                if _key(item) not in known:
                    self._cluster.delete(item["kind"], item["metadata"]["name"], wanted.namespace)
            if self._made_keys:
                self._cluster.delete("Secret", wanted.secret, wanted.namespace)
            for item in before:
                if _key(item) in self._touched:
                    self._cluster.apply(as_applied(item), force=True)
            if not updates:
                _wait_gone(self._cluster, wanted.namespace, wanted.selector)
        except MlopsError as error:
            return f"and the change could not be undone completely: {error.message}"
        return "the former version is still served" if updates else "it was removed again"

    def _wait_address(self) -> None:
        """Wait for the address of the load balancer. Without one, give a message: the endpoint works within the cluster."""
        told = False
        for _ in polls(min(self._wanted.deadline_s, _ADDRESS_SECONDS), 0.5, 0.5):
            service = self._cluster.get("Service", self._wanted.endpoint, self._wanted.namespace) or {}
            if ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress"):
                return
            if not told:
                self._say("waiting for the address of the load balancer")
                told = True
        events = self._cluster.list(
            "Event", self._wanted.namespace, fields=f"involvedObject.name={self._wanted.endpoint}"
        )
        warnings = [str(item.get("message")) for item in events if item.get("type") == "Warning"]
        why = f": {warnings[-1]}" if warnings else ""
        self._say(f"the load balancer has no address yet{why}; MLOPS_AKS_EXPOSE=cluster is for clusters without one")


def objects_of(cluster: KubernetesCluster, namespace: str, selector: str) -> list[Manifest]:
    """Return all objects that match a selector, in the order of their deletion, without routes. Raises ClusterError."""
    return [item for kind in PARTS for item in cluster.list(kind, namespace, selector)]


def as_applied(live: Manifest) -> Manifest:
    """Return a live object as it can be applied: without fields of the cluster, and those that a deployment does not set."""
    made = {key: value for key, value in live.items() if key != "status"}
    metadata = {key: value for key, value in live["metadata"].items() if key not in _SERVER_FIELDS}
    annotations = {
        name: value
        for name, value in (metadata.get("annotations") or {}).items()
        if not name.startswith("deployment.kubernetes.io/") and name != TAGS
    }
    made["metadata"] = {**metadata, "annotations": annotations} if annotations else _without(metadata, "annotations")
    if live["kind"] == "Deployment":
        made["spec"] = _without(live["spec"], "replicas")
    cleaned: Manifest = _without_none(made)
    return cleaned


def remove(cluster: KubernetesCluster, namespace: str, selector: str) -> None:
    """Delete all objects that match a selector, and wait until the pods have ended. Raises DeploymentError."""
    for item in objects_of(cluster, namespace, selector):
        cluster.delete(item["kind"], item["metadata"]["name"], namespace)
    _wait_gone(cluster, namespace, selector)


def _wait_gone(cluster: KubernetesCluster, namespace: str, selector: str) -> None:
    for _ in polls(_DELETE_SECONDS, 0.3, 0.3):
        if not cluster.list("Pod", namespace, selector) and not cluster.list("Deployment", namespace, selector):
            return
    raise DeploymentError(
        f"pods with {selector.rpartition(',')[2]} have not ended within {_DELETE_SECONDS} s",
        f"kubectl get pods --namespace {namespace} shows why",
    )


def _key(item: Manifest) -> tuple[str, str]:
    return item["kind"], item["metadata"]["name"]


def _without(mapping: Manifest, key: str) -> Manifest:
    return {name: value for name, value in mapping.items() if name != key}


def _without_none(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _without_none(value) for key, value in node.items() if value is not None}
    if isinstance(node, list):
        return [_without_none(item) for item in node]
    return node
