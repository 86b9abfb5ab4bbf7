"""The containers behind deployments without a scoring script: a server on the model, which is really probed."""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from azureml_emulator.jobs.project_folder import ProjectFolder
from azureml_emulator.process_commands import machine_environment
from azureml_emulator.resources.asset_references import resolve
from azureml_emulator.resources.datastore_addresses import OutputAddresses
from azureml_emulator.resources.rest_resources import RestResource
from azureml_emulator.resources.subscription import Subscription
from azureml_emulator.rest.rest_calls import Json, ServiceRefusalError

MOUNT = "/var/azureml-app"
_START_SECONDS = 60.0
_PROBE_SECONDS = 30.0
_CRASHED = "User container has crashed or terminated"


@dataclass
class ContainerReply:
    """The response of a container."""

    status: int
    kind: str
    content: bytes


@dataclass
class DeploymentContainer:
    """One container: its process, its port on this machine and the one that it was given, and its logs."""

    folder: Path
    routes: Json
    told: int
    mounted: str = ""
    process: subprocess.Popen[bytes] | None = None
    port: int = 0
    log: Path = field(init=False)

    def __post_init__(self) -> None:
        self.log = self.folder / "server.log"

    def ask(
        self,
        route: str,
        method: str = "GET",
        query: str = "",
        body: bytes = b"",
        kind: str = "",
        seconds: float = _PROBE_SECONDS,
    ) -> ContainerReply:
        """Send a request to one of its routes. Raises OSError if nobody listens, as on a port that it does not have."""
        found = self.routes[route]
        if int(found["port"]) != self.told:
            raise ConnectionRefusedError(f"connection refused on port {found['port']}")
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=seconds)
        with contextlib.closing(connection):
            path = str(found["path"]) + (f"?{query}" if query else "")
            connection.request(method, path, body or None, {"Content-Type": kind} if kind else {})
            answer = connection.getresponse()
            return ContainerReply(answer.status, answer.headers.get("Content-Type", ""), answer.read())

    def stop(self) -> None:
        """End the process; the logs stay."""
        if self.process is None:
            return
        if self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


class DeploymentContainers:
    """All containers, by deployment.

    Args:
        subscription: Contains images and models.
        jobs: Knows the outputs from which models may be made.
    """

    def __init__(self, subscription: Subscription, jobs: OutputAddresses) -> None:
        self._subscription = subscription
        self._jobs = jobs
        self._numbers = count(1)
        self._running: dict[str, DeploymentContainer] = {}
        self._last: dict[str, DeploymentContainer] = {}
        self._restoring: dict[str, Future[None]] = {}

    def restore(self, deployments: Iterable[RestResource]) -> None:
        """Start again what ran in an earlier process, in the background; scoring waits for it."""
        shutil.rmtree(self._subscription.folder / "containers", ignore_errors=True)
        starter = ThreadPoolExecutor(2, "restored-deployments")
        for deployment in deployments:
            self._restoring[deployment.id.lower()] = starter.submit(self._start_again, deployment)
        starter.shutdown(wait=False)

    def _start_again(self, deployment: RestResource) -> None:
        try:
            self.start(deployment)
        except (ServiceRefusalError, OSError):  # its log says why
            deployment.properties["provisioningState"] = "Failed"

    def start(self, deployment: RestResource) -> None:
        """Pull, mount, start and probe; the previous container runs until then, and continues if this fails.

        Raises:
            ServiceRefusalError: fails like the operation of the service, with the reason.
        """
        environment = resolve(self._subscription, deployment.properties["environmentId"]).properties
        variables = {
            key: str(value) for key, value in (deployment.properties.get("environmentVariables") or {}).items()
        }
        folder = self._subscription.folder / "containers" / str(next(self._numbers))
        made = DeploymentContainer(
            folder, environment.get("inferenceConfig") or {}, self._subscription.commands.told_port(variables)
        )
        key = deployment.id.lower()
        self._last[key] = made
        model = self._mount(deployment, made)
        self._subscription.limits.check_image(str(environment.get("image")))
        self._run(made, variables, model)
        try:
            self._probe(made)
        except ServiceRefusalError:
            made.stop()
            raise
        if key in self._running:
            self._running[key].stop()
        self._running[key] = made

    def find(self, deployment: RestResource) -> DeploymentContainer | None:
        """Return the container that responds for a deployment."""
        restored = self._restoring.get(deployment.id.lower())
        if restored is not None:
            restored.result()
        return self._running.get(deployment.id.lower())

    def log(self, deployment: RestResource, kind: str) -> str:
        """Return the log of its container, or of the one that mounted its model."""
        found = self._last.get(deployment.id.lower())
        if found is None:
            return ""
        if kind == "StorageInitializer":
            return found.mounted
        return found.log.read_text() if found.log.exists() else ""

    def stop(self, path: str = "") -> None:
        """End the containers of all deployments at or below a path."""
        for key in [key for key in self._last if key == path.lower() or key.startswith(path.lower().rstrip("/") + "/")]:
            self._last.pop(key).stop()
            if key in self._running:
                self._running.pop(key).stop()

    def _mount(self, deployment: RestResource, made: DeploymentContainer) -> Path:
        model = deployment.properties["model"]
        asset = str(model if isinstance(model, str) else model["assetId"])
        project = ProjectFolder(
            self._subscription, self._jobs, deployment.id.split("/onlineEndpoints/")[0], made.folder
        )
        source = project.folder / project.data("model", asset)
        name, version = asset.split("/models/")[1].split("/versions/")
        target = made.folder / "azureml-app" / "azureml-models" / name / version
        target.mkdir(parents=True)
        shutil.move(source, target / source.name)
        made.mounted = f"downloaded {name}:{version} to {MOUNT}/azureml-models/{name}/{version}/{source.name}\n"
        return target

    def _run(self, made: DeploymentContainer, variables: dict[str, str], model: Path) -> None:
        here = str(made.folder / "azureml-app")
        inside = {key: value.replace(MOUNT, here, 1) for key, value in variables.items()}
        port_file = made.folder / "port"
        # Only the command of an image is run: on loopback, and on a free port, because others run beside it.
        commands = self._subscription.commands
        environment = {**machine_environment(), **commands.deployment_variables(model, inside)}
        with made.log.open("wb") as stream:
            made.process = subprocess.Popen(
                commands.deployment_line(port_file),
                stdout=stream,
                stderr=stream,
                cwd=made.folder,
                start_new_session=True,
                env=environment,
            )
        deadline = time.monotonic() + _START_SECONDS
        while not (port_file.is_file() and port_file.read_text().strip()):
            if (code := made.process.poll()) is not None:
                raise ServiceRefusalError(400, "ResourceNotReady", f"{_CRASHED}: it ended with exit code {code}")
            if time.monotonic() > deadline:
                made.stop()
                raise ServiceRefusalError(400, "ResourceNotReady", f"{_CRASHED}: it does not listen")
            time.sleep(0.02)
        made.port = int(port_file.read_text())

    def _probe(self, made: DeploymentContainer) -> None:
        """Probe readiness until it succeeds, then liveness; the service's minutes are seconds here."""
        deadline, problem = time.monotonic() + _PROBE_SECONDS, ""
        while time.monotonic() < deadline:
            written = made.log.read_text()
            problem = _problem(made, "readinessRoute")
            if not problem or self._subscription.commands.settled(written, "refused" in problem):
                break
            time.sleep(0.05)
        problem = problem and f"readiness probe failed: {problem}"
        if not problem and (wrong := _problem(made, "livenessRoute")):
            problem = f"liveness probe failed: {wrong}"
        if problem:
            raise ServiceRefusalError(400, "ResourceNotReady", f"{_CRASHED}: {problem}")


def _problem(container: DeploymentContainer, route: str) -> str:
    try:
        status = container.ask(route).status
    except OSError as error:
        return str(error)
    return "" if status == 200 else f"{container.routes[route]['path']} returned HTTP {status}"
