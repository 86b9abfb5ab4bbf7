"""Places where a registered model can be served, each behind the same interface; see :mod:`.contract`."""

from __future__ import annotations

import importlib
from typing import cast

from vision_mlops.core.errors import DeploymentError
from vision_mlops.endpoints.contract import Target

TARGETS = {
    "local": "a process on this machine, behind a router",
    "docker": "a container on this machine; the way on a compute instance",
    "aci": "Azure Container Instances",
    "aks": "a Kubernetes cluster, such as Azure Kubernetes Service",
    "kubernetes-endpoint": "an Azure ML online endpoint on an attached Kubernetes cluster",
    "managed": "a managed online endpoint of Azure ML",
    "batch": "a batch endpoint of Azure ML",
}
"""Names of all targets, and what each is."""
_MODULES = {
    "kubernetes-endpoint": "azureml.kubernetes_target",
    "managed": "azureml.managed_target",
    "batch": "azureml.batch_target",
}


def open_target(name: str) -> Target:
    """A target by its name; nothing is read or sent before it is used.

    Raises:
        DeploymentError: there is no such target.
    """
    if name not in TARGETS:
        raise DeploymentError(f"there is no target {name!r}", f"use one of: {', '.join(TARGETS)}")
    module = importlib.import_module(f"vision_mlops.endpoints.{_MODULES.get(name, f'{name}.target')}")
    return cast(Target, module.open_target())
