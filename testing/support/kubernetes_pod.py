"""A pod of the loopback cluster: the scoring server as a process, started, probed and ended like a container."""

from __future__ import annotations

import base64
import contextlib
import http.client
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from testing.support.kubernetes_store import Object, now

Tell = Callable[[str, str, str], None]
"""Writes an event: name of the pod, reason, message."""
_LATE_SECONDS = 5


class Pod:
    """One pod. ``step`` is called often, and moves it on.

    Args:
        manifest: As the controller made it.
        folder: For its log and its files.
        pace: Real seconds for one second of a manifest.
    """

    def __init__(self, manifest: Object, folder: Path, pace: float) -> None:
        folder.mkdir(parents=True)
        self.manifest, self.folder, self.pace = manifest, folder, pace
        self.container: Object = manifest["spec"]["containers"][0]
        self.process: subprocess.Popen[bytes] | None = None
        self.state: Object = {"waiting": {"reason": "ContainerCreating"}}
        self.last_state: Object = {}
        self.restarts, self.pulls = 0, 0
        self.ready = self.was_ready = False
        self.scheduled: str | None = None
        self.ending_since: float | None = None
        self._next = 0.0

    @property
    def name(self) -> str:
        return str(self.manifest["metadata"]["name"])

    @property
    def routed(self) -> bool:
        """Whether load balancers send it requests: also for some seconds after it has begun to end, as they learn late."""
        if self.ending_since is not None:
            return self.was_ready and time.monotonic() - self.ending_since < _LATE_SECONDS * self.pace
        return self.ready

    @property
    def port(self) -> int:
        try:
            return int((self.folder / "port").read_text() or 0)
        except FileNotFoundError:
            return 0

    def log(self, *, previous: bool) -> str | None:
        file = self.folder / f"log-{self.restarts - previous}"
        return file.read_text(errors="replace") if file.is_file() else None

    def write_keys(self, data: Mapping[str, str]) -> None:
        """Bring a Secret's items to its files, each replaced whole, as the kubelet does."""
        for item, content in data.items():
            file = self.folder / item
            value = base64.b64decode(content)
            if not file.is_file() or file.read_bytes() != value:
                temporary = file.with_suffix(".new")
                temporary.write_bytes(value)
                temporary.replace(file)

    def run(self, images: Mapping[str, Path | str], tell: Tell) -> None:
        """Pull, start, probe and start again, a step at a time."""
        if time.monotonic() < self._next:
            return
        if self.process is None:
            self._start(images, tell)
        elif (code := self.process.poll()) is not None:
            self._ended(code)
        else:
            self._probe(tell)

    def end(self) -> bool:
        """One step of ending; True once nothing of it runs: preStop, SIGTERM, and SIGKILL when its grace is over."""
        moment = time.monotonic()
        if self.ending_since is None:
            self.ending_since, self.was_ready = moment, self.ready
        self.ready = False
        if self.process is None or self.process.poll() is not None:
            return True
        sleep = self.container["lifecycle"]["preStop"]["sleep"]["seconds"] * self.pace
        if moment - self.ending_since >= sleep and "terminating" not in self.state:
            self.state = {"terminating": {}}
            self.process.terminate()
        if moment - self.ending_since >= self.manifest["spec"]["terminationGracePeriodSeconds"]:
            self.kill()
        return False

    def kill(self) -> None:
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def status(self) -> Object:
        """Its status as the kubelet reports it."""
        if self.scheduled is not None:
            unscheduled = {
                "type": "PodScheduled",
                "status": "False",
                "reason": "Unschedulable",
                "message": self.scheduled,
            }
            return {"phase": "Pending", "conditions": [unscheduled]}
        container = {
            "name": self.container["name"], "image": self.container["image"], "imageID": "", "ready": self.ready,
            "restartCount": self.restarts, "state": self.state if "terminating" not in self.state else {"running": {}},
            "lastState": self.last_state,
        }  # fmt: skip
        return {
            "phase": "Running" if self.process else "Pending",
            "conditions": [
                {"type": "PodScheduled", "status": "True"},
                {"type": "Ready", "status": str(self.ready)},
            ],
            "containerStatuses": [container],
        }

    def _start(self, images: Mapping[str, Path | str], tell: Tell) -> None:
        image = self.container["image"]
        bundle = images.get(image, f"failed to resolve reference {image}: not found")
        if isinstance(bundle, str):
            self.pulls += 1
            reason = "ErrImagePull" if self.pulls == 1 else "ImagePullBackOff"
            text = f"failed to pull and unpack image: {bundle}"
            text = text if self.pulls == 1 else f'Back-off pulling image "{image}": ErrImagePull: {text}'
            self.state = {"waiting": {"reason": reason, "message": text}}
            self._next = time.monotonic() + 3 * self.pace
            tell(self.name, "Failed", text)
            return
        variables = {item["name"]: item["value"] for item in self.container["env"]}
        mounts = {item["mountPath"]: item["name"] for item in self.container["volumeMounts"]}
        key_file = Path(variables["MLOPS_SCORING_KEY_FILE"])
        assert mounts[str(key_file.parent)] == "keys"
        (self.folder / "port").write_text("")
        # What the image's entry point does, but on loopback, and on a free port.
        command = [
            sys.executable, "-m", "vision_mlops", "serve", str(bundle), "--host", "127.0.0.1", "--port", "0",
            "--port-file", str(self.folder / "port"),
        ]  # fmt: skip
        own = {"MLOPS_SCORING_KEY_FILE": str(self.folder / key_file.name), "HOME": str(self.folder)}
        with (self.folder / f"log-{self.restarts}").open("wb") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, start_new_session=True,
                env={**os.environ, **variables, "MLOPS_HOME": str(self.folder / "home"), **own},
            )  # fmt: skip
        self.state = {"running": {"startedAt": now()}}

    def _ended(self, code: int) -> None:
        ended = {"terminated": {"exitCode": code, "reason": "Error" if code else "Completed", "finishedAt": now()}}
        self.ready, self.process = False, None
        self.last_state, self.restarts = ended, self.restarts + 1
        text = f"back-off {10 * self.restarts}s restarting failed container={self.container['name']}"
        self.state = {"waiting": {"reason": "CrashLoopBackOff", "message": text}}
        self._next = time.monotonic() + 10 * 2 ** (self.restarts - 1) * self.pace

    def _probe(self, tell: Tell) -> None:
        probe: Any = self.container["readinessProbe"]
        self._next = time.monotonic() + probe["periodSeconds"] * self.pace
        if not self.port:
            return
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=2)
        with contextlib.closing(connection):
            try:
                connection.request("GET", probe["httpGet"]["path"])
                status = connection.getresponse().status
            except (OSError, http.client.HTTPException):
                return
        self.ready = status == 200
        if not self.ready:
            tell(self.name, "Unhealthy", f"Readiness probe failed: HTTP probe failed with statuscode: {status}")
