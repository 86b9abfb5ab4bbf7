"""Chooses the endpoint of the web frontend where no address is given: one that was deployed from here."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from vision_mlops.cli.bundle_argument import registered_bundle
from vision_mlops.core.errors import DeploymentError, MlopsError
from vision_mlops.endpoints.targets import open_target, target_of, targets_used

if TYPE_CHECKING:
    from vision_mlops.endpoints.contract import Endpoint

_HERE = ("local", "docker")
"""Targets on this machine."""


@dataclass(frozen=True, slots=True)
class ChosenEndpoint:
    """Address of an endpoint, how to sign in, the key where it takes one, and a folder of sample images, if any."""

    url: str
    auth: Literal["key", "identity", "none"]
    key: str = field(default="", repr=False)
    samples: Path | None = None


def choose_endpoint(name: str = "", target: str = "") -> ChosenEndpoint:
    """Find an endpoint by its name, or without a name the only one that runs on this machine.

    Args:
        name: Name of the endpoint.
        target: Its target; by default the one that it was deployed to from here.

    Raises:
        DeploymentError: no endpoint matches, or more than one; the hint says how to start or name one.
        MlopsError: the target denies access to it.
    """
    endpoint = open_target(target or target_of(name)).endpoint(name) if name else _only_one()
    if endpoint.auth == "aml_token":
        raise DeploymentError(
            f"endpoint {endpoint.name!r} accepts only tokens of Azure ML, which expire after some hours",
            "deploy with --auth key, or with aad_token on a managed endpoint",
        )
    samples = _samples(endpoint)
    if endpoint.auth == "aad_token":  # the app renews the token itself
        return ChosenEndpoint(endpoint.url, "identity", samples=samples)
    access = open_target(endpoint.target).access(endpoint.name)
    key = access.headers.get("X-Api-Key") or access.headers.get("Authorization", "").removeprefix("Bearer ")
    return ChosenEndpoint(access.url, "key" if key else "none", key, samples)


def _only_one() -> Endpoint:
    from vision_mlops.endpoints.contract import EndpointStatus

    found = [item for target in targets_used() if target in _HERE for item in open_target(target).endpoints()]
    running = [item for item in found if item.state is not EndpointStatus.STOPPED]
    if len(running) == 1:
        return running[0]
    if running:
        named = ", ".join(f"{item.name} ({item.url})" for item in running)
        raise DeploymentError(
            f"{len(running)} endpoints run on this machine: {named}",
            f"choose one: mlops app --endpoint {running[0].name}",
        )
    start = "mlops deploy --to local --model NAME@champion --endpoint NAME"
    if found:
        raise DeploymentError(
            f"endpoint {found[0].name!r} is stopped, and no other runs on this machine", f"start it again: {start}"
        )
    raise DeploymentError(
        "no scoring endpoint runs on this machine",
        f"start one: {start}; or give the address of one: mlops app --endpoint http://127.0.0.1:8000",
    )


def _samples(endpoint: Endpoint) -> Path | None:
    """Return the folder of golden images of the served model, so that the gallery shows what the model knows."""
    serving = endpoint.serving
    if serving is None or endpoint.target not in _HERE:
        return None
    with contextlib.suppress(MlopsError):
        folder = registered_bundle(serving.reference).folder / "golden"
        return folder if folder.is_dir() else None
    return None
