"""YAML of Azure ML that does not define a job: what it is, and the command for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_COMPUTE = ("a compute target", "az ml compute create")
_DATASTORE = ("a datastore", "az ml datastore create")
_CONNECTION = ("a connection", "az ml connection create")
_BY_NAME = {
    "amlcompute": _COMPUTE, "computeinstance": _COMPUTE, "kubernetescompute": _COMPUTE, "kubernetes": _COMPUTE,
    "virtualmachinecompute": _COMPUTE, "virtualmachine": _COMPUTE, "synapsesparkcompute": _COMPUTE,
    "synapsespark": _COMPUTE, "azureblob": _DATASTORE, "azurefile": _DATASTORE, "azuredatalakegen1": _DATASTORE,
    "azuredatalakegen2": _DATASTORE, "onelake": _DATASTORE, "workspaceconnection": _CONNECTION,
    "connection": _CONNECTION, "dataimport": ("an import of data", "az ml data import"),
    "workspace": ("a workspace", "az ml workspace create"), "registry": ("a registry", "az ml registry create"),
    "featureset": ("a feature set", "az ml feature-set create"),
    "featurestoreentity": ("a feature store entity", "az ml feature-store-entity create"),
    "featurestore": ("a feature store", "az ml feature-store create"),
}  # fmt: skip
"""Keyed by the end of $schema, or by `type`, in lowercase without underscores."""


def resource_of(node: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return what a file defines and its command, or None for a job, component, schedule, asset or endpoint."""
    schema = str(node.get("$schema", "")).rsplit("/", 1)[-1].removesuffix(".json").removesuffix(".schema")
    for word in (schema, str(node.get("type", ""))):
        found = _BY_NAME.get(word.lower().replace("_", ""))
        if found is not None:
            return found
    return _BY_NAME["dataimport"] if "source" in node and "path" in node and "command" not in node else None
