"""The Secret with the two keys of an endpoint: made once, changed one at a time, never shown."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping

from vision_mlops.core.errors import DeploymentError
from vision_mlops.endpoints.aks.cluster import KubernetesCluster
from vision_mlops.endpoints.aks.cluster_errors import ClusterError
from vision_mlops.endpoints.aks.manifests import KEYS_ITEM, EndpointManifest, Manifest, encode_keys, render
from vision_mlops.serving.access_keys import KEY_NAMES, new_key


def ensure_keys(cluster: KubernetesCluster, definition: EndpointManifest) -> bool:
    """Make the Secret where there is none, and say so; one that is there stays as it is. Raises ClusterError."""
    if cluster.get("Secret", definition.secret, definition.namespace) is not None:
        return False
    made = next(item for item in render(definition, [new_key(), new_key()]) if item["kind"] == "Secret")
    try:
        cluster.create(made)
    except ClusterError as error:
        if error.status != 409:  # another deploy was faster: its keys are the ones
            raise
        return False
    return True


def read_keys(cluster: KubernetesCluster, definition: EndpointManifest) -> Mapping[str, str]:
    """The keys by name. Raises DeploymentError."""
    return _decoded(_secret(cluster, definition), definition)


def rotate(cluster: KubernetesCluster, definition: EndpointManifest, which: str) -> None:
    """Make one key anew. A pod reads it within about a minute: so long the kubelet takes to bring it there.

    Raises:
        DeploymentError: there is no such key, or the cluster refuses.
    """
    if which not in KEY_NAMES:
        raise DeploymentError(f"there is no key {which!r}", f"give {' or '.join(KEY_NAMES)}")
    secret = _secret(cluster, definition)
    keys = {**_decoded(secret, definition), which: new_key()}
    changed = next(item for item in render(definition, [keys[name] for name in KEY_NAMES]) if item["kind"] == "Secret")
    # So that of two rotations at once one is refused, and not undone.
    changed["metadata"]["resourceVersion"] = secret["metadata"]["resourceVersion"]
    changed["data"] = {KEYS_ITEM: encode_keys([keys[name] for name in KEY_NAMES])}
    cluster.apply(changed, force=True)


def _secret(cluster: KubernetesCluster, definition: EndpointManifest) -> Manifest:
    found = cluster.get("Secret", definition.secret, definition.namespace)
    if found is None:
        raise DeploymentError(
            f"Secret {definition.secret} of endpoint {definition.endpoint!r} is gone", "deploy it again"
        )
    return found


def _decoded(secret: Manifest, definition: EndpointManifest) -> dict[str, str]:
    try:
        lines = base64.b64decode((secret.get("data") or {})[KEYS_ITEM]).decode().split()
    except (KeyError, ValueError, binascii.Error):
        lines = []
    if not lines:
        raise DeploymentError(
            f"Secret {definition.secret} has no item {KEYS_ITEM!r} with a key a line", "delete it and deploy again"
        ) from None
    return dict(zip(KEY_NAMES, (lines[0], lines[-1]), strict=True))
