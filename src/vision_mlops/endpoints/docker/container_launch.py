"""How the scoring server runs in a container: the options of the engine, and labels that say what it is."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from vision_mlops.containers.container_engine import STOP_SECONDS, Container
from vision_mlops.core import paths
from vision_mlops.endpoints.contract import DeploymentRequest
from vision_mlops.serving.access_keys import FILE_VARIABLE

_PREFIX = "vision-mlops."
_PORT_INSIDE = 8000
_KEYS_INSIDE = "/run/mlops"


@dataclass(frozen=True, slots=True)
class Launch:
    """One deployment as a container.

    Attributes:
        request: What is deployed.
        image, image_id: Image of the server.
        keys: Folder with the keys.
        bundle: Folder of the bundle, which is mounted; None if the image contains it.
        run_options: Options of the engine that the user has set.
    """

    request: DeploymentRequest
    image: str
    image_id: str
    keys: Path
    bundle: Path | None
    run_options: tuple[str, ...] = ()

    @property
    def fingerprint(self) -> str:
        """Hash of everything that makes a different container, except for the port."""
        model, options = self.request.model, self.request.options
        facts = [
            self.request.deployment, model.name, model.version, model.bundle_id, self.image_id, self._copy,
            options.workers, options.cpu, options.memory_gb, sorted(options.environment.items()), self.run_options,
        ]  # fmt: skip
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]

    def options(self, port: int, *, trial: bool, host_network: bool) -> list[str]:
        """Return the options of the engine for this deployment.

        Args:
            port: On this machine's loopback interface.
            trial: Whether it only has to show that it becomes ready; then it is not restarted.
            host_network: Whether the container shares this machine's network, where the server itself must keep to loopback.
        """
        model, given = self.request.model, self.request.options
        variables = {**given.environment, FILE_VARIABLE: f"{_KEYS_INSIDE}/keys", "MLOPS_AUTH": "key"}
        variables |= {"MLOPS_MODEL_NAME": model.name, "MLOPS_MODEL_VERSION": str(model.version)}
        if self.bundle is not None:
            variables["MLOPS_BUNDLE"] = "/model"
        if host_network:
            variables |= {"MLOPS_HOST": "127.0.0.1", "MLOPS_PORT": str(port)}
        else:
            variables |= {"MLOPS_HOST": "0.0.0.0", "MLOPS_PORT": str(_PORT_INSIDE)}
        options = ["--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"]
        options += ["--restart", "no" if trial else "unless-stopped", "--stop-timeout", str(STOP_SECONDS)]
        options += [] if host_network else ["--publish", f"127.0.0.1:{port}:{_PORT_INSIDE}"]
        options += ["--cpus", f"{given.cpu:g}"] if given.cpu else []
        options += ["--memory", str(round(given.memory_gb * 2**30))] if given.memory_gb else []
        options += _mount(self.keys, _KEYS_INSIDE)
        options += _mount(self.bundle, "/model") if self.bundle is not None else []
        for name, value in self._labels(port, trial).items():
            options += ["--label", f"{name}={value}"]
        for name, value in variables.items():
            options += ["--env", f"{name}={value}"]
        return options

    def command(self) -> list[str]:
        """Return the arguments of ``mlops serve`` in the container."""
        workers = self.request.options.workers
        return ["--workers", str(workers)] if workers else []

    @property
    def _copy(self) -> str:
        return self.bundle.name if self.bundle is not None else ""

    def _labels(self, port: int, trial: bool) -> dict[str, str]:
        model = self.request.model
        facts = {
            **own_labels(), "endpoint": self.request.endpoint, "deployment": self.request.deployment, "model": model.name,
            "version": str(model.version), "bundle": model.bundle_id, "port": str(port), "image": self.image,
            "fingerprint": self.fingerprint, "copy": self._copy, "trial": "yes" if trial else "no",
        }  # fmt: skip
        return {name if name.startswith(_PREFIX) else _PREFIX + name: value for name, value in facts.items()}


def own_labels(endpoint: str = "") -> dict[str, str]:
    """Return the labels of all containers that belong to this home folder, or to one endpoint of it."""
    labels = {f"{_PREFIX}made-by": "mlops", f"{_PREFIX}home": str(paths.home())}
    return {**labels, f"{_PREFIX}endpoint": endpoint} if endpoint else labels


def fact(container: Container, name: str) -> str:
    """Return a label: endpoint, deployment, model, version, bundle, port, image, fingerprint, copy or trial."""
    return container.labels.get(_PREFIX + name, "")


def _mount(source: Path, target: str) -> list[str]:
    return ["--mount", f"type=bind,source={source},target={target},readonly"]
