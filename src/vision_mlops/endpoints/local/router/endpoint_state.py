"""The wanted state of an endpoint on this machine: a file in its folder, which only the holder of the lock may write."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from vision_mlops.core.errors import DeploymentError
from vision_mlops.core.files import atomic_write, remove_path

FILE = "local.json"
LOCK = "router.lock"
"""Held by the router as long as it runs; holds its process id."""
KEY = "router.key"
COUNTS = "counts.json"
LOG = "router.log"
LOGS = "logs"
CHANGE_LOCK = "change.lock"
"""Held by a command that creates or deletes something."""


@dataclass(frozen=True, slots=True)
class DeploymentSpec:
    """One deployment: a model version, and how it is served. ``bundle`` is an absolute path."""

    name: str
    model: str
    version: str
    bundle: str
    workers: int | None = None
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class EndpointState:
    """An endpoint: its port, its deployments in order of age, and how the traffic is shared, in percent by deployment."""

    name: str
    port: int
    deployments: tuple[DeploymentSpec, ...] = ()
    traffic: Mapping[str, int] = field(default_factory=dict)
    mirror: Mapping[str, int] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)

    def spec(self, name: str) -> DeploymentSpec | None:
        """Return one of its deployments, or None."""
        return next((item for item in self.deployments if item.name == name), None)

    def with_deployment(self, spec: DeploymentSpec) -> EndpointState:
        """Return the endpoint with a deployment added or replaced; the first one gets all traffic."""
        if self.spec(spec.name) is not None:
            kept = tuple(spec if item.name == spec.name else item for item in self.deployments)
            return replace(self, deployments=kept)
        traffic = self.traffic if self.deployments else {spec.name: 100}
        return replace(self, deployments=(*self.deployments, spec), traffic=traffic)

    def without_deployment(self, name: str) -> EndpointState:
        """Return the endpoint without one of its deployments, which has no traffic."""
        return replace(
            self,
            deployments=tuple(item for item in self.deployments if item.name != name),
            traffic={other: share for other, share in self.traffic.items() if other != name},
            mirror={other: share for other, share in self.mirror.items() if other != name},
        )


def spec_from(content: Mapping[str, Any]) -> DeploymentSpec:
    """Return a deployment from JSON. Raises TypeError if a field is missing or unknown."""
    return DeploymentSpec(**content)


def read_state(folder: Path) -> EndpointState | None:
    """Read the state in an endpoint's folder; None if it does not exist.

    Raises:
        DeploymentError: the file cannot be read.
    """
    path = folder / FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        specs = tuple(spec_from(item) for item in content.pop("deployments"))
        return EndpointState(**content, deployments=specs)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise DeploymentError(
            f"{path} cannot be read: {error}", f"mlops endpoint delete {folder.name} --on local, and deploy it again"
        ) from error


def write_state(folder: Path, state: EndpointState) -> None:
    """Replace the state, whole or not at all."""
    atomic_write(folder / FILE, json.dumps(asdict(state), indent=1) + "\n")


def read_key(folder: Path) -> str:
    """Read the key with which commands of this user may change the router. Raises DeploymentError."""
    try:
        return (folder / KEY).read_text(encoding="ascii")
    except OSError as error:
        raise DeploymentError(f"{folder / KEY} cannot be read: {error.strerror}", "run this as its owner") from error


def write_key(folder: Path, key: str) -> None:
    """Write the key of a router, for its owner only."""
    path = folder / KEY
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
        stream.write(key)


def remove_files(folder: Path) -> None:
    """Remove the files of an endpoint, and its folder if nothing else is in it."""
    for name in (FILE, COUNTS, KEY, LOGS, LOG, f"{LOG}.1", LOCK, CHANGE_LOCK):
        remove_path(folder / name)
    with contextlib.suppress(OSError):  # missing, or another target has an endpoint of this name
        folder.rmdir()


def read_pid(folder: Path) -> int | None:
    """Return the process id of the router, to be trusted only while its lock is held."""
    try:
        return int((folder / LOCK).read_text())
    except (OSError, ValueError):
        return None
