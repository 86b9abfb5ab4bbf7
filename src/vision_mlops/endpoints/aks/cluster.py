"""The Kubernetes API as this target uses it: objects are plain dictionaries, and changes are server-side applies."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vision_mlops.core.errors import ConfigError, problem_of_file, require
from vision_mlops.endpoints.aks.cluster_errors import GET_CREDENTIALS, SIGN_IN, ClusterError, cluster_errors
from vision_mlops.endpoints.aks.manifests import CONTAINER, Manifest

if TYPE_CHECKING:
    from kubernetes.dynamic import DynamicClient
    from kubernetes.dynamic.resource import Resource

MANAGER = "mlops"
"""Owner of the fields that we apply; fields that others own in the same objects remain theirs."""
_TIMEOUT = (5, 60)  # seconds, to connect and to respond
_APIS = {
    "Namespace": ("", "v1", "namespaces"),
    "ServiceAccount": ("", "v1", "serviceaccounts"),
    "Secret": ("", "v1", "secrets"),
    "Service": ("", "v1", "services"),
    "Pod": ("", "v1", "pods"),
    "Event": ("", "v1", "events"),
    "Deployment": ("apps", "v1", "deployments"),
    "ReplicaSet": ("apps", "v1", "replicasets"),
    "NetworkPolicy": ("networking.k8s.io", "v1", "networkpolicies"),
    "Ingress": ("networking.k8s.io", "v1", "ingresses"),
    "PodDisruptionBudget": ("policy", "v1", "poddisruptionbudgets"),
    "HorizontalPodAutoscaler": ("autoscaling", "v2", "horizontalpodautoscalers"),
    "HTTPRoute": ("gateway.networking.k8s.io", "v1", "httproutes"),
    "Gateway": ("gateway.networking.k8s.io", "v1", "gateways"),
}
PARTS = (
    "Ingress", "Service", "HorizontalPodAutoscaler", "Deployment", "PodDisruptionBudget", "NetworkPolicy", "Secret",
    "ServiceAccount",
)  # fmt: skip
"""Kinds of the objects of a deployment, in the order of their deletion; not every cluster has HTTPRoutes."""


class KubernetesCluster:
    """One cluster of the kubeconfig.

    Args:
        context: Context of the kubeconfig; the current one if not given.

    Raises:
        MissingExtraError: the client is not installed.
        ConfigError: the kubeconfig or the context does not exist, or the sign-in fails.
    """

    def __init__(self, context: str | None = None) -> None:
        self._client, self.namespace = _open(context)

    def apply(self, manifest: Manifest, *, manager: str = MANAGER, force: bool = False) -> Manifest:
        """Apply an object, with ``force`` also if another manager owns a field. Raises ClusterError."""
        kind, name, namespace = _named(manifest)
        with cluster_errors(f"applying {kind} {name}", secret=kind == "Secret"):
            return self._content(
                self._client.server_side_apply(
                    self._resource(kind), manifest, name, namespace, force_conflicts=force, field_manager=manager,
                    _request_timeout=_TIMEOUT,
                )
            )  # fmt: skip

    def create(self, manifest: Manifest) -> None:
        """Create an object that does not exist yet. Raises ClusterError."""
        kind, name, namespace = _named(manifest)
        with cluster_errors(f"creating {kind} {name}", secret=kind == "Secret"):
            self._client.create(
                self._resource(kind), manifest, namespace, field_manager=MANAGER, _request_timeout=_TIMEOUT
            )

    def get(self, kind: str, name: str, namespace: str | None = None) -> Manifest | None:
        """Return an object; None if it does not exist. Raises ClusterError."""
        try:
            with cluster_errors(f"reading {kind} {name}", secret=kind == "Secret"):
                return self._content(self._client.get(self._resource(kind), name, namespace, _request_timeout=_TIMEOUT))
        except ClusterError as error:
            if error.status == 404:
                return None
            raise

    def list(self, kind: str, namespace: str | None, labels: str = "", fields: str = "") -> list[Manifest]:
        """Return objects that match the selectors, in all namespaces if none is given. Raises ClusterError."""
        where = f"in namespace {namespace}" if namespace else "in all namespaces"
        with cluster_errors(f"listing {kind}s {where}", secret=kind == "Secret"):
            found = self._content(
                self._client.get(
                    self._resource(kind), None, namespace, label_selector=labels or None, field_selector=fields or None,
                    _request_timeout=_TIMEOUT,
                )
            )  # fmt: skip
        group, version, _plural = _APIS[kind]
        own = {"apiVersion": f"{group}/{version}".lstrip("/"), "kind": kind}  # items of a list do not have it
        return [{**own, **item} for item in found.get("items") or []]

    def delete(self, kind: str, name: str, namespace: str) -> None:
        """Delete an object with everything that it owns, if it exists. Raises ClusterError."""
        options = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Foreground"}
        try:
            with cluster_errors(f"deleting {kind} {name}"):
                self._client.delete(self._resource(kind), name, namespace, body=options, _request_timeout=_TIMEOUT)
        except ClusterError as error:
            if error.status != 404:
                raise

    def log(self, namespace: str, pod: str, lines: int, *, previous: bool = False) -> str:
        """Return the last lines of the server in a pod, or with ``previous`` of the server that ran there before it."""
        path = f"/api/v1/namespaces/{namespace}/pods/{pod}/log"
        query = [("container", CONTAINER), ("tailLines", lines), ("previous", str(previous).lower())]
        with cluster_errors(f"reading the log of {pod}"):
            response = self._client.request(
                "get", path, query_params=query, serialize=False, header_params={"Accept": "*/*"},
                _request_timeout=_TIMEOUT,
            )  # fmt: skip
        return str(response.data.decode(errors="replace"))

    def _resource(self, kind: str) -> Resource:
        from kubernetes.dynamic.resource import Resource

        group, version, plural = _APIS[kind]
        return Resource(
            prefix="apis" if group else "api", group=group, api_version=version, kind=kind, name=plural,
            namespaced=kind != "Namespace", verbs=[], client=self._client,
        )  # fmt: skip

    @staticmethod
    def _content(response: Any) -> Manifest:
        content: Manifest = response.to_dict()
        return content


def _open(context: str | None) -> tuple[DynamicClient, str]:
    """Return a client, and the namespace in the kubeconfig."""
    require("kubernetes")
    from kubernetes import client, config
    from kubernetes.dynamic import DynamicClient
    from yaml import YAMLError

    file = os.environ.get("KUBECONFIG") or str(Path.home() / ".kube" / "config")
    settings = client.Configuration()
    settings.retries = 0  # callers that wait try again themselves; the library would log each attempt
    try:
        with _logged_errors() as plugin:
            config.load_kube_config(file, context, settings, persist_config=False)
        contexts, current = config.list_kube_config_contexts(file)
    except config.ConfigException as error:
        raise _no_cluster(file, context, str(error)) from error
    except YAMLError as error:
        raise ConfigError(
            f"{file} is not valid YAML: {problem_of_file(error)}", f"fix it, or write it again: {GET_CREDENTIALS}"
        ) from error
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror}", "check its permissions, or KUBECONFIG") from error
    if plugin:
        raise ConfigError(f"the sign-in in {file} has failed: {plugin[0]}", SIGN_IN)
    chosen = next(item for item in contexts if item["name"] == context) if context else current
    namespace = str(chosen["context"].get("namespace") or "default")
    # The kinds of objects are known, so nothing is discovered, or cached in a shared folder.
    return DynamicClient(client.ApiClient(settings), discoverer=lambda _client, _cache: None), namespace


def _no_cluster(file: str, context: str | None, problem: str) -> ConfigError:
    """Return the error for a kubeconfig that names no cluster."""
    if not any(Path(part).is_file() for part in file.split(os.pathsep) if part):
        return ConfigError(
            f"no cluster to use: the kubeconfig {file} does not exist",
            f"create a cluster, and let `{GET_CREDENTIALS}` write the file; KUBECONFIG names another file",
        )
    if context is not None:
        hint = "`kubectl config get-contexts` lists all contexts: set MLOPS_AKS_CONTEXT to one"
        return ConfigError(f"no cluster to use: {file} has no complete context {context!r}: {problem}", hint)
    return ConfigError(
        f"no cluster to use: {file} has no current context: {problem}",
        f"choose one of its contexts with MLOPS_AKS_CONTEXT, or add a cluster: {GET_CREDENTIALS}",
    )


@contextmanager
def _logged_errors() -> Iterator[list[str]]:
    """Collect what the library logs as errors: if a sign-in plugin such as kubelogin fails, it continues without it."""
    found: list[str] = []

    def keep(record: logging.LogRecord) -> bool:
        if record.levelno >= logging.ERROR:
            found.append(record.getMessage())
        return record.levelno < logging.ERROR

    root, handler = logging.getLogger(), logging.NullHandler()
    root.addHandler(handler)  # without a handler, the first message would set one up
    root.addFilter(keep)
    try:
        yield found
    finally:
        root.removeFilter(keep)
        root.removeHandler(handler)


def _named(manifest: Manifest) -> tuple[str, str, str | None]:
    metadata = manifest["metadata"]
    return manifest["kind"], metadata["name"], metadata.get("namespace")
