"""The Secret with the two keys of an endpoint: created once, changed one key at a time, never shown."""

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
    """Create the Secret if it does not exist, and return whether it was created. Raises ClusterError."""
    if cluster.get("Secret", definition.secret, definition.namespace) is not None:
        return False
    made = next(item for item in render(definition, [new_key(), new_key()]) if item["kind"] == "Secret")
    try:
        cluster.create(made)
    except ClusterError as error:
        if error.status != 409:  # another deployment was faster, and its keys count
            raise
        return False
    return True


def read_keys(cluster: KubernetesCluster, definition: EndpointManifest) -> Mapping[str, str]:
    """Return the keys by name. Raises DeploymentError."""
    return _decoded(_secret(cluster, definition), definition)


def rotate(cluster: KubernetesCluster, definition: EndpointManifest, which: str) -> None:
    """Replace one key. A pod has it after about a minute, which the kubelet takes to update it.

    Raises:
        DeploymentError: the key is unknown, or the cluster refuses.
    """
    if which not in KEY_NAMES:
        raise DeploymentError(f"unknown key {which!r}", f"give {' or '.join(KEY_NAMES)}")
    secret = _secret(cluster, definition)
    keys = {**_decoded(secret, definition), which: new_key()}
    changed = next(item for item in render(definition, [keys[name] for name in KEY_NAMES]) if item["kind"] == "Secret")
    # Of two rotations at once, one is refused instead of undone.
    changed["metadata"]["resourceVersion"] = secret["metadata"]["resourceVersion"]
    changed["data"] = {KEYS_ITEM: encode_keys([keys[name] for name in KEY_NAMES])}
    cluster.apply(changed, force=True)


def _secret(cluster: KubernetesCluster, definition: EndpointManifest) -> Manifest:
    found = cluster.get("Secret", definition.secret, definition.namespace)
    if found is None:
        raise DeploymentError(
            f"Secret {definition.secret} of endpoint {definition.endpoint!r} does not exist", "deploy it again"
        )
    return found


def _decoded(secret: Manifest, definition: EndpointManifest) -> dict[str, str]:
    try:
        lines = base64.b64decode((secret.get("data") or {})[KEYS_ITEM]).decode().split()
    except (KeyError, ValueError, binascii.Error):
        lines = []
    if not lines:
        raise DeploymentError(
            f"Secret {definition.secret} has no item {KEYS_ITEM!r} with one key per line", "delete it and deploy again"
        ) from None
    return dict(zip(KEY_NAMES, (lines[0], lines[-1]), strict=True))
