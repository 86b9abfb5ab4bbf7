"""The places where a registered model can be served, each behind :mod:`.contract`, and which of them were used from here."""

from __future__ import annotations

import importlib
import json

from vision_mlops.core import paths
from vision_mlops.core.errors import DeploymentError
from vision_mlops.core.files import atomic_write
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
    """Return a target by its name; nothing is read or sent before it is used.

    Raises:
        DeploymentError: the target is unknown.
    """
    if name not in TARGETS:
        raise DeploymentError(f"unknown target {name!r}", f"use one of: {', '.join(TARGETS)}")
    module = importlib.import_module(f"vision_mlops.endpoints.{_MODULES.get(name, f'{name}.target')}")
    target: Target = module.open_target()
    return target


def remember(name: str, target: str) -> None:
    """Note that an endpoint was deployed to a target."""
    known = _read_known()
    if target not in known.get(name, []):
        known[name] = sorted([*known.get(name, []), target])
        _write_known(known)


def forget(name: str, target: str) -> None:
    """Note that an endpoint was removed from a target."""
    known = _read_known()
    if target in known.get(name, []):
        known[name].remove(target)
        _write_known({endpoint: targets for endpoint, targets in known.items() if targets})


def targets_used() -> list[str]:
    """Return the targets that anything was deployed to."""
    return sorted({target for places in _read_known().values() for target in places})


def target_of(name: str) -> str:
    """Return the target that an endpoint was deployed to from here.

    Raises:
        DeploymentError: none is known, or more than one.
    """
    places = _read_known().get(name, [])
    if len(places) == 1:
        return places[0]
    if places:
        raise DeploymentError(f"endpoint {name!r} is on {' and '.join(places)}", f"choose one: --on {places[0]}")
    known = ", ".join(sorted(_read_known()))
    raise DeploymentError(
        f"no endpoint {name!r} was deployed from here",
        f"known here: {known}" if known else "name its target with --on, or create it with `mlops deploy`",
    )


def _read_known() -> dict[str, list[str]]:
    try:
        content = json.loads((paths.home() / "endpoints" / "known.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}  # it only saves typing: without it, commands ask for --on
    return content if isinstance(content, dict) else {}


def _write_known(known: dict[str, list[str]]) -> None:
    atomic_write(paths.home() / "endpoints" / "known.json", json.dumps(known, indent=1))
