"""The machines of compute instances: each has a Docker that runs while the instance does."""

from __future__ import annotations

import shutil
import tempfile
import threading
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from azureml_emulator.docker_engine.docker_engine import DockerEngine, EngineSocket
from azureml_emulator.docker_engine.engine_routes import engine_app
from azureml_emulator.process_commands import ProcessCommands
from azureml_emulator.resources.rest_resources import RestResource


@dataclass(frozen=True)
class _Machine:
    """A machine that is on."""

    engine: DockerEngine
    socket: EngineSocket


class InstanceMachines:
    """All machines that are on, by instance.

    Args:
        folder: Keeps the content of their disks.
        commands: Has the command that serves.
        pullable: Returns whether an image is in a registry.
    """

    def __init__(self, folder: Callable[[], Path], commands: ProcessCommands, pullable: Callable[[str], bool]) -> None:
        self._folder = folder
        self._commands = commands
        self._pullable = pullable
        self._lock = threading.RLock()
        self._on: dict[str, _Machine] = {}
        self._sockets: Path | None = None

    def docker_host(self, instance: RestResource) -> str:
        """Return the value of ``DOCKER_HOST`` for an instance; empty while it is off."""
        with self._lock:
            machine = self._on.get(instance.id.lower())
            return machine.socket.address if machine is not None else ""

    def turn_on(self, instance: RestResource) -> None:
        """Start a machine, and the containers that should run whenever it does."""
        with self._lock:
            if instance.id.lower() in self._on:
                return
            engine = DockerEngine(self._disk(instance), self._commands, self._pullable)
            self._on[instance.id.lower()] = _Machine(engine, EngineSocket(engine_app(engine), self._socket(instance)))
        engine.turn_on()

    def turn_off(self, instance: RestResource) -> None:
        """End a machine and its containers; its disk stays."""
        with self._lock:
            machine = self._on.pop(instance.id.lower(), None)
        if machine is not None:
            machine.socket.close()
            machine.engine.turn_off()

    def discard(self, instance: RestResource) -> None:
        """End a machine and delete its disk."""
        self.turn_off(instance)
        shutil.rmtree(self._disk(instance), ignore_errors=True)

    def stop(self) -> None:
        """End all machines; their disks stay."""
        with self._lock:
            machines, sockets = list(self._on.values()), self._sockets
            self._on.clear()
            self._sockets = None
        for machine in machines:
            machine.socket.close()
            machine.engine.turn_off()
        if sockets is not None:
            shutil.rmtree(sockets, ignore_errors=True)

    def _socket(self, instance: RestResource) -> Path:
        """Return the address of its Docker: always the same, in a folder that only its owner can open."""
        if self._sockets is None:  # not beside the disks: the path of a socket has at most 107 bytes
            self._sockets = Path(tempfile.mkdtemp(prefix="azureml-docker-"))
        number = zlib.crc32(instance.id.lower().encode())  # instances of two workspaces may have the same name
        return self._sockets / f"{instance.name}-{number:08x}.sock"

    def _disk(self, instance: RestResource) -> Path:
        workspace = instance.id.split("/workspaces/")[1].split("/")[0]
        return self._folder() / "instances" / workspace.lower() / instance.name.lower()
