"""One container that really runs: it pulls an image of the loopback cloud, runs its process, probes it, and restarts it.

Seconds of a definition last a hundredth here. Probes begin once the server listens, because starting Python takes longer.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from azureml_emulator.container_groups.registry_images import RegistryImage
from azureml_emulator.process_commands import ProcessCommands, machine_environment
from azureml_emulator.resources.rest_resources import now
from azureml_emulator.rest.rest_calls import Json

_SECOND = 0.01
_BACK_OFF_SECONDS = 0.05
_LOOPING = 3


@dataclass
class _Event:
    name: str
    message: str
    type: str
    first: str
    last: str
    count: int = 1

    def to_dict(self) -> Json:
        dates = {"firstTimestamp": self.first, "lastTimestamp": self.last}
        return {"name": self.name, "message": self.message, "type": self.type, "count": self.count, **dates}


@dataclass
class _Run:
    """One process of the container, and the port that it listens on (0 until then)."""

    process: subprocess.Popen[bytes]
    port_file: Path
    started: str = field(default_factory=now)

    @property
    def port(self) -> int:
        text = self.port_file.read_text().strip() if self.port_file.exists() else ""
        return int(text or 0)


class ContainerProcess:
    """A container of a group.

    Args:
        definition: Definition as the service received it, with secrets.
        volumes: Volumes of the group.
        images: Images that can be pulled.
        identity: Identity that pulls; empty for none.
        commands: Has the command that serves an image's model.
        folder: Its own folder.
    """

    def __init__(
        self,
        definition: Json,
        volumes: list[Json],
        images: Mapping[str, RegistryImage],
        identity: str,
        commands: ProcessCommands,
        folder: Path,
    ) -> None:
        self._properties: Json = definition["properties"]
        self._images = images
        self._identity = identity.lower()
        self._commands = commands
        self._machine = machine_environment()
        self._folder = folder
        self._log, self._former_log = folder / "log", folder / "log.1"
        self._events: list[_Event] = []
        self._state: Json = {"state": "Waiting", "detailStatus": "Creating"}
        self._previous: Json | None = None
        self._restarts = 0
        self._run: _Run | None = None
        self._ending = threading.Event()
        folder.mkdir(parents=True)
        self._mount(volumes)
        self._thread = threading.Thread(target=self._live, daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """Return the port on which its server listens; 0 while it does not."""
        return self._run.port if self._run else 0

    @property
    def is_up(self) -> bool:
        """Return whether it runs, or has tried to."""
        return self._restarts > 0 or (self._state["state"] == "Running" and self.port > 0)

    def view(self) -> Json:
        """Return its instance view."""
        view: Json = {"restartCount": self._restarts, "currentState": dict(self._state)}
        if self._previous:
            view["previousState"] = self._previous
        return {**view, "events": [item.to_dict() for item in list(self._events)]}

    def log(self) -> str:
        """Return what its current process has written, or, until it has written anything, the previous one."""
        texts = [path.read_text(errors="replace") for path in (self._log, self._former_log) if path.exists()]
        return next((text for text in texts if text), "")

    def stop(self) -> None:
        """End the container."""
        self._ending.set()
        self._thread.join(15)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _mount(self, volumes: list[Json]) -> None:
        for mount in self._properties.get("volumeMounts") or []:
            volume = next(item for item in volumes if item["name"] == mount["name"])
            path = self._path(mount["mountPath"])
            path.mkdir(parents=True)
            for name, value in (volume.get("secret") or {}).items():
                (path / name).write_bytes(base64.b64decode(value))

    def _path(self, inside: str) -> Path:
        return self._folder / "root" / inside.lstrip("/")

    def _live(self) -> None:
        image = self._pull()
        while image is not None and not self._ending.is_set():
            self._start(image)
            self._watch()
            self._state = {"state": "Waiting", "detailStatus": "CrashLoopBackOff" if self._restarts >= _LOOPING else ""}
            if self._ending.wait(_BACK_OFF_SECONDS):
                return
            self._restarts += 1

    def _pull(self) -> RegistryImage | None:
        name = self._properties["image"]
        while not self._ending.is_set():
            self._note("Pulling", f'pulling image "{name}"')
            image = self._images.get(name)
            if image is not None and (not image.pullers or self._identity in {item.lower() for item in image.pullers}):
                self._note("Pulled", f'Successfully pulled image "{name}"')
                return image
            why = (
                "unauthorized: authentication required" if image else f"manifest for {name} not found: manifest unknown"
            )
            self._note("Failed", f'Failed to pull image "{name}": rpc error: code = Unknown desc = {why}', "Warning")
            self._state = {"state": "Waiting", "detailStatus": "ImagePullBackOff"}
            self._ending.wait(_BACK_OFF_SECONDS)
        return None

    def _start(self, image: RegistryImage) -> None:
        port_file = self._folder / "port"
        port_file.unlink(missing_ok=True)
        command = list(image.command) or self._commands.group_line(image.bundle or Path(), port_file)
        if self._log.exists():
            self._log.replace(self._former_log)
        with self._log.open("wb") as log:
            process = subprocess.Popen(
                command, stdout=log, stderr=subprocess.STDOUT, env=self._environment(), cwd=self._folder,
                start_new_session=True,
            )  # fmt: skip
        if image.command:
            port_file.write_text("9")  # nobody listens there, so the probes fail
        self._run = _Run(process, port_file)
        self._state = {"state": "Running", "startTime": self._run.started, "detailStatus": ""}
        self._note("Started", "Started container")

    def _environment(self) -> dict[str, str]:
        given = {item["name"]: item.get("value") or "" for item in self._properties.get("environmentVariables") or []}
        mounts = [str(item["mountPath"]) for item in self._properties.get("volumeMounts") or []]
        for name, value in given.items():
            if any(Path(value).is_relative_to(mount) for mount in mounts):  # volumes are below its root
                given[name] = str(self._path(value))
        return {**self._machine, **self._commands.group_variables(self._folder), **given}

    def _watch(self) -> None:
        """Run the probes until the process has ended, on its own or because it is not alive."""
        assert self._run is not None
        run, missed, asked = self._run, 0, 0.0
        probe: Json = self._properties.get("livenessProbe") or {}
        while run.process.poll() is None and not self._ending.wait(0.02):
            if not run.port or time.monotonic() - asked < probe.get("periodSeconds", 10) * _SECOND:
                continue
            asked = time.monotonic()
            self._ask("Readiness", self._properties.get("readinessProbe") or {}, run.port)
            missed = 0 if self._ask("Liveness", probe, run.port) else missed + 1
            if missed >= probe.get("failureThreshold", 3):
                self._note("Killing", "Killing container: failed liveness probe, will be restarted")
                break
        code = self._end(run)
        self._previous = {"state": "Terminated", "exitCode": code, "startTime": run.started, "finishTime": now()}
        self._previous["detailStatus"] = "Error" if code else "Completed"
        self._run = None

    def _ask(self, word: str, probe: Json, port: int) -> bool:
        """Return whether a probe gets a response; if there is no probe, return True."""
        if not probe:
            return True
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
        with contextlib.closing(connection):
            try:
                connection.request("GET", probe["httpGet"]["path"])
                status = connection.getresponse().status
            except (OSError, http.client.HTTPException) as error:
                self._note("Unhealthy", f"{word} probe failed: {error}", "Warning")
                return False
        if 200 <= status < 400:
            return True
        self._note("Unhealthy", f"{word} probe failed: HTTP probe failed with status code: {status}", "Warning")
        return False

    @staticmethod
    def _end(run: _Run) -> int:
        if run.process.poll() is None:
            run.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                run.process.wait(10)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(run.process.pid, signal.SIGKILL)
        return run.process.wait()

    def _note(self, name: str, message: str, type_: str = "Normal") -> None:
        moment = now()
        for item in self._events:
            if (item.name, item.message) == (name, message):
                item.count, item.last = item.count + 1, moment
                return
        self._events.append(_Event(name, message, type_, moment, moment))
