"""One container of an engine: a process that serves, restarted as its policy says."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from azureml_emulator.docker_engine.engine_images import EngineImage
from azureml_emulator.process_commands import ProcessCommands, machine_environment
from azureml_emulator.resources.rest_resources import now
from azureml_emulator.rest.rest_calls import Json, ServiceRefusalError

_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 10.0
_NEVER = "0001-01-01T00:00:00Z"


@dataclass
class ContainerState:
    """The state of a container, in Docker's words."""

    status: str = "created"
    exit_code: int = 0
    restarts: int = 0
    pid: int = 0
    started: str = _NEVER
    ended: str = _NEVER

    def to_dict(self) -> Json:
        """Return the state as the engine shows it."""
        return {
            "Status": self.status,
            "Running": self.status == "running",
            "Restarting": self.status == "restarting",
            "Paused": False,
            "Dead": False,
            "OOMKilled": False,
            "Pid": self.pid,
            "ExitCode": self.exit_code,
            "Error": "",
            "StartedAt": self.started,
            "FinishedAt": self.ended,
        }


@dataclass
class ContainerDefinition:
    """The definition of a container: kept until it is removed.

    Attributes:
        id: Sixty-four hexadecimal digits.
        name: Name of the container.
        created: When it was created.
        image: Id of its image.
        body: Request of the client.
        wanted: Whether it was started, and has not been stopped since.
    """

    id: str
    name: str
    created: str
    image: str
    body: Json
    wanted: bool = False


class EngineContainer:
    """A container.

    Args:
        definition: Its definition.
        image: Its image.
        commands: Has the command that serves.
        folder: Its own folder.
    """

    def __init__(
        self, definition: ContainerDefinition, image: EngineImage, commands: ProcessCommands, folder: Path
    ) -> None:
        self.definition = definition
        self.image = image
        self.state = ContainerState()
        self._commands = commands
        self._folder = folder
        self._lock = threading.RLock()
        self._ending = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread: threading.Thread | None = None

    @property
    def _body(self) -> Json:
        return self.definition.body

    @property
    def labels(self) -> Json:
        """Return its labels, with those of its image."""
        return {**self.image.labels, **(self._body.get("Labels") or {})}

    @property
    def policy(self) -> str:
        """Return its restart policy: no, always, unless-stopped or on-failure."""
        return str((self._host.get("RestartPolicy") or {}).get("Name") or "no")

    @property
    def active(self) -> bool:
        """Return whether its process runs, or will run again."""
        return self.state.status in ("running", "restarting")

    def start(self) -> None:
        """Start its process.

        Raises:
            ServiceRefusalError: 500, its port is taken, or a mounted path does not exist.
        """
        with self._lock:
            if self.active:
                return
            for source, _ in self._mounts():
                if not Path(source).exists():
                    message = f'invalid mount config for type "bind": bind source path does not exist: {source}'
                    raise ServiceRefusalError(400, "BadRequest", message)
            port = self._claim()
            self._ending.clear()
            self.state.restarts = 0
            self._launch(port)
            self._thread = threading.Thread(target=self._live, args=(port,), daemon=True)
            self._thread.start()

    def stop(self, seconds: float) -> None:
        """Stop its process; kill it after the given number of seconds."""
        with self._lock:
            self._ending.set()
            process = self._process
            if process is not None and process.poll() is None:
                process.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(seconds)
            _kill(process)
            if self._thread is not None:
                self._thread.join(15)

    def log(self) -> bytes:
        """Return everything that its processes have written."""
        path = self._folder / "log"
        return path.read_bytes() if path.exists() else b""

    @property
    def _host(self) -> Json:
        return self._body.get("HostConfig") or {}

    def _mounts(self) -> list[tuple[str, str]]:
        """Return paths on this machine, with the paths in the container at which they are mounted."""
        found = [(str(item["Source"]), str(item["Target"])) for item in self._host.get("Mounts") or []]
        for bind in self._host.get("Binds") or []:
            source, target = bind.split(":")[:2]
            found.append((source, target))
        return found

    def _claim(self) -> int:
        """Return the port of this machine that the server should listen on, which is free."""
        told = self._commands.told_port(self._given)
        if self._host.get("NetworkMode") == "host":
            wanted = told
        else:
            bindings = (self._host.get("PortBindings") or {}).get(f"{told}/tcp") or [{}]
            wanted = int(bindings[0].get("HostPort") or 0)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", wanted))
            except OSError as error:
                message = (
                    f"driver failed programming external connectivity on endpoint {self.definition.name}: "
                    f"Bind for 127.0.0.1:{wanted} failed: port is already allocated"
                )
                raise ServiceRefusalError(500, "ServerError", message) from error
            return int(probe.getsockname()[1])

    def _launch(self, port: int) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        line = self._commands.container_line([str(word) for word in self._body.get("Cmd") or []])
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                line, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self._folder,
                env=self._environment(port), start_new_session=True,
            )  # fmt: skip
        self.state.status, self.state.pid, self.state.started = "running", self._process.pid, now()

    def _live(self, port: int) -> None:
        """Wait for the process to end, and restart it if the policy says so."""
        pause = _FIRST_PAUSE_SECONDS
        while self._process is not None:
            code = self._process.wait()
            _kill(self._process)  # processes that it started end with it
            self.state.exit_code, self.state.pid = code if code >= 0 else 128 - code, 0
            self.state.ended = now()
            again = self.policy in ("always", "unless-stopped") or (self.policy == "on-failure" and code != 0)
            if not again or self._ending.is_set():
                break
            self.state.status = "restarting"
            if self._ending.wait(pause):
                break
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
            self.state.restarts += 1
            self._launch(port)
            if self._ending.is_set():  # it was stopped in between
                _kill(self._process)
        self.state.status = "exited"

    @property
    def _given(self) -> dict[str, str]:
        """Return the variables that the container was given, and those of its image."""
        own = dict(str(item).partition("=")[::2] for item in self._body.get("Env") or [])
        return {**self.image.variables, **own}

    def _environment(self, port: int) -> Mapping[str, str]:
        """Return the variables of the process, with paths of this machine instead of those in the container."""
        given = {name: self._outside(value) for name, value in self._given.items() if name != "PATH"}
        own = self._commands.group_variables(self._folder)
        return {**machine_environment(), **own, **self._commands.container_variables(given, port)}

    def _outside(self, inside: str) -> str:
        """Return the path on this machine for a path of the container; return other text unchanged."""
        if not inside.startswith("/"):
            return inside
        for source, target in self._mounts():
            if Path(inside).is_relative_to(target):
                return str(Path(source) / Path(inside).relative_to(target))
        if self.image.root and (Path(self.image.root) / inside.lstrip("/")).exists():
            return str(Path(self.image.root) / inside.lstrip("/"))
        return str(self._folder / "root" / inside.lstrip("/")) if inside in self.image.variables.values() else inside


def _kill(process: subprocess.Popen[bytes] | None) -> None:
    """End a process and all processes that it has started."""
    if process is not None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
