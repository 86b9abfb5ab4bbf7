"""An engine: its images and containers, and the socket by which Docker's command line reaches it."""

from __future__ import annotations

import json
import secrets
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import uvicorn
from starlette.applications import Starlette

from azureml_emulator.docker_engine.engine_container import ContainerDefinition, EngineContainer
from azureml_emulator.docker_engine.engine_images import EngineImage, EngineImages, tagged
from azureml_emulator.process_commands import ProcessCommands
from azureml_emulator.resources.rest_resources import now
from azureml_emulator.rest.rest_calls import Json, ServiceRefusalError
from azureml_emulator.whole_files import write_whole

_END_SECONDS = 10.0


class DockerEngine:
    """The engine of one machine. Its content stays in its folder while it is off.

    Args:
        folder: Keeps its images and containers.
        commands: Has the command that serves.
        pullable: Returns whether an image is in a registry.
    """

    def __init__(
        self, folder: Path, commands: ProcessCommands, pullable: Callable[[str], bool] = lambda image: True
    ) -> None:
        self._folder = folder
        self._pullable = pullable
        self._commands = commands
        self._lock = threading.RLock()
        self._file = folder / "containers.json"
        self.images = EngineImages(folder)
        self._containers: dict[str, EngineContainer] = {}
        for item in json.loads(self._file.read_text()) if self._file.exists() else []:
            self._open(ContainerDefinition(**item))

    def all(self) -> list[EngineContainer]:
        """Return the containers, oldest first."""
        with self._lock:
            return list(self._containers.values())

    def get(self, name: str) -> EngineContainer:
        """Return a container by its name, its id, or the beginning of its id.

        Raises:
            ServiceRefusalError: 404, there is none.
        """
        with self._lock:
            for container in self._containers.values():
                known = container.definition
                if known.name == name.removeprefix("/") or (len(name) >= 12 and known.id.startswith(name)):
                    return container
        raise ServiceRefusalError(404, "NotFound", f"No such container: {name}")

    def pull(self, reference: str) -> EngineImage:
        """Pull an image from a registry. Raises ServiceRefusalError: 404, it is in none."""
        name = tagged(reference)
        if not self._pullable(name):
            message = f"manifest for {name} not found: manifest unknown: manifest unknown"
            raise ServiceRefusalError(404, "NotFound", message)
        return self.images.pull(name, self._commands.image_variables())

    def create(self, name: str, body: Json) -> EngineContainer:
        """Create a container that does not run yet.

        Raises:
            ServiceRefusalError: 404, its image is missing; 409, its name is taken.
        """
        image = self.images.get(str(body.get("Image")))
        with self._lock:
            self._check_name(name)
            made = ContainerDefinition(secrets.token_hex(32), name or secrets.token_hex(6), now(), image.id, body)
            container = self._open(made)
            self._write()
        return container

    def start(self, container: EngineContainer) -> None:
        """Start a container. Raises ServiceRefusalError."""
        container.start()
        self._want(container, True)

    def stop(self, container: EngineContainer, seconds: float) -> None:
        """Stop a container: it stays stopped when the machine is started again."""
        self._want(container, False)
        container.stop(seconds)

    def rename(self, container: EngineContainer, name: str) -> None:
        """Give a container another name. Raises ServiceRefusalError: 409, it is taken."""
        with self._lock:
            self._check_name(name)
            container.definition.name = name
            self._write()

    def remove(self, container: EngineContainer, force: bool) -> None:
        """Remove a container.

        Raises:
            ServiceRefusalError: 409, it runs, and ``force`` is not given.
        """
        if container.active and not force:
            message = f"cannot remove container {container.definition.name!r}: container is running: stop it first"
            raise ServiceRefusalError(409, "Conflict", message)
        container.stop(0)
        with self._lock:
            self._containers.pop(container.definition.id, None)
            self._write()
        shutil.rmtree(self._folder / container.definition.id, ignore_errors=True)

    def turn_on(self) -> None:
        """Start the containers that ran when it was turned off and should run again."""
        for container in self.all():
            if container.definition.wanted and container.policy in ("always", "unless-stopped"):
                container.start()

    def turn_off(self) -> None:
        """End all containers; they stay."""
        for container in self.all():
            container.stop(_END_SECONDS)

    def _open(self, definition: ContainerDefinition) -> EngineContainer:
        image = self.images.get(f"sha256:{definition.image}")
        made = EngineContainer(definition, image, self._commands, self._folder / definition.id)
        self._containers[definition.id] = made
        return made

    def _check_name(self, name: str) -> None:
        for container in self._containers.values():
            if name and container.definition.name == name:
                message = (
                    f'Conflict. The container name "/{name}" is already in use by container "{container.definition.id}"'
                )
                raise ServiceRefusalError(409, "Conflict", message)

    def _want(self, container: EngineContainer, wanted: bool) -> None:
        with self._lock:
            container.definition.wanted = wanted
            self._write()

    def _write(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        write_whole(self._file, json.dumps([asdict(item.definition) for item in self._containers.values()]))


class EngineSocket:
    """The Unix socket of an engine. Whoever may open its folder has full control of the engine.

    Args:
        app: Application that responds.
        path: Path of the socket: at most 107 bytes.

    Attributes:
        address: Value for ``DOCKER_HOST``.
    """

    def __init__(self, app: Starlette, path: Path) -> None:
        self._path = path
        self.address = f"unix://{path}"
        config = uvicorn.Config(
            cast(Any, app), uds=str(path), lifespan="off", log_level="critical", timeout_graceful_shutdown=1
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        deadline = time.monotonic() + 20
        while not self._server.started:
            if time.monotonic() > deadline or not self._thread.is_alive():
                raise RuntimeError(f"the Docker of a compute instance did not start at {self.address}")
            time.sleep(0.01)

    def close(self) -> None:
        """Close the socket."""
        self._server.should_exit = True
        self._thread.join(10)
        self._path.unlink(missing_ok=True)
