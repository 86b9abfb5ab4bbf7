"""One endpoint on this machine, as commands see it: its folder, its router, and its deployments.

    MLOPS_HOME/endpoints/NAME/   local.json, router.log, logs/DEPLOYMENT.log, counts.json, router.key

While it runs, only the router writes there; the lock that it holds shows whether it runs.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import secrets
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from vision_mlops.core import locks, paths
from vision_mlops.core.errors import DeploymentError
from vision_mlops.core.text import counted
from vision_mlops.endpoints.contract import Deployment, DeploymentRequest, Endpoint, EndpointStatus, Say
from vision_mlops.endpoints.local.router import endpoint_state
from vision_mlops.endpoints.local.router.endpoint_state import DeploymentSpec, EndpointState
from vision_mlops.endpoints.polling import polls
from vision_mlops.endpoints.ports import loopback_listener

TIMEOUT_SECONDS = 120.0
_STOPPED = "its router is not running; `mlops deploy` with the same model starts it again"
_RESPONSE_SECONDS = 10.0
_END_SECONDS = 100.0
_PAUSE_SECONDS = 0.03
_children: list[subprocess.Popen[bytes]] = []  # routers outlive the command; those that end before it are reaped


class LocalEndpoint:
    """An endpoint by its name, which need not exist."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.folder = endpoints_folder() / name

    @property
    def exists(self) -> bool:
        """Whether the endpoint exists."""
        return (self.folder / endpoint_state.FILE).is_file()

    def is_running(self) -> bool:
        """Return whether its router runs."""
        _children[:] = [child for child in _children if child.poll() is None]
        return locks.is_taken(self.folder / endpoint_state.LOCK)

    def state(self) -> EndpointState:
        """Return its wanted state. Raises DeploymentError if it does not exist or cannot be read."""
        state = endpoint_state.read_state(self.folder)
        if state is None:
            known = ", ".join(endpoint_names()) or "none"
            raise DeploymentError(f"no endpoint {self.name!r} exists on this machine", f"known: {known}")
        return state

    def hold(self, say: Say, seconds: float = TIMEOUT_SECONDS) -> AbstractContextManager[object]:
        """Take the lock under which one command at a time changes an endpoint; the end of a ``with`` statement releases it.

        Raises:
            DeploymentError: another command has held it for longer than that.
        """
        path = self.folder / endpoint_state.CHANGE_LOCK
        lock = locks.take(path)
        if lock is None:
            say(f"waiting for another command that changes endpoint {self.name!r}")
            lock = locks.take(path, wait=seconds)
        if lock is None:
            raise DeploymentError(f"another command is changing endpoint {self.name!r}", "try again when it has ended")
        return lock

    # What is deployed

    def deploy(self, request: DeploymentRequest, say: Say) -> None:
        """Deploy a model version to the endpoint, which is created if it is new, and wait until it is ready.

        Raises:
            DeploymentError: it did not become ready; what was there before is unchanged.
        """
        options, model = request.options, request.model
        spec = DeploymentSpec(
            request.deployment, model.name, str(model.version), str(request.bundle()), options.workers,
            dict(options.environment),
        )  # fmt: skip
        timeout = options.timeout_s or TIMEOUT_SECONDS
        port: int | None = None
        with self.hold(say, timeout):
            try:
                state = endpoint_state.read_state(self.folder)
                port = self._started(state, options.port, say)
                present = state.spec(spec.name) if state is not None else None
                self._make(port, spec if present is None else _with_former(spec, present), timeout, say)
            finally:
                if not self.exists:  # the first deployment has failed: nothing is left of the endpoint
                    self.end(port)
                    endpoint_state.remove_files(self.folder)

    def describe(self) -> Endpoint:
        """Return the endpoint as it is now. Raises DeploymentError where it does not exist."""
        try:
            state = self.state()
        except DeploymentError as error:
            if not self.exists:
                raise
            return Endpoint(self.name, "local", EndpointStatus.FAILED, auth="none", problem=str(error))
        url = f"http://127.0.0.1:{state.port}/score"
        if not self.is_running():
            return _at_rest(state, url, EndpointStatus.STOPPED, _STOPPED)
        try:
            told = self.ask("status")
        except DeploymentError as error:
            if not self.is_running():
                return _at_rest(state, url, EndpointStatus.STOPPED, _STOPPED)
            problem = f"{error.message} (process {endpoint_state.read_pid(self.folder)})"
            return _at_rest(state, url, EndpointStatus.FAILED, problem)
        deployments = tuple(
            Deployment(
                row["name"], row["model"], row["version"], EndpointStatus(row["state"]), row["traffic"], row["mirror"],
                problem=row["problem"],
            )
            for row in told["deployments"]
        )  # fmt: skip
        return Endpoint(self.name, "local", _overall(deployments), url, "none", deployments, tags=told["tags"])

    def _make(self, port: int, spec: DeploymentSpec, timeout: float, say: Say) -> None:
        begun = time.monotonic()
        told = self.ask("deploy", port, patience=timeout + _RESPONSE_SECONDS, spec=asdict(spec), seconds=timeout)
        if told["problem"]:
            raise DeploymentError(
                f"deployment {spec.name!r} did not become ready: {told['problem']}\n{told['log']}".rstrip(),
                "fix the cause, and deploy again",
            )
        how = (
            "is deployed already: nothing changes"
            if told["known"]
            else f"is ready after {time.monotonic() - begun:.1f} s"
        )
        say(f"{spec.name} ({spec.model}:{spec.version}) {how}")
        wait(lambda: self._others_settled(port), timeout)

    def _others_settled(self, port: int) -> bool:
        """Return whether, after a new start, the other deployments with traffic are ready or have failed."""
        rows = self.ask("status", port)["deployments"]
        return not any(row["traffic"] and row["state"] == EndpointStatus.CHANGING for row in rows)

    # Its router

    def ask(
        self, action: str, port: int | None = None, *, patience: float = _RESPONSE_SECONDS, **fields: Any
    ) -> dict[str, Any]:
        """Let the router execute an action.

        Args:
            action: One of the actions of the router's control.
            port: Port of the router, if the endpoint has no state yet.
            patience: Seconds to wait for the response.
            fields: Fields of the action.

        Raises:
            DeploymentError: the router refuses, or does not respond.
        """
        port = self.state().port if port is None else port
        headers = {"X-Api-Key": endpoint_state.read_key(self.folder), "Content-Type": "application/json"}
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=patience)
        see = f"see {self.folder / endpoint_state.LOG}"
        with contextlib.closing(connection):
            try:
                connection.connect()
                # However this process ends, the connection is reset, and the router notices at once.
                connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                connection.request("POST", f"/admin/{action}", json.dumps(fields), headers)
                response = connection.getresponse()
                content = json.loads(response.read())
            except (OSError, http.client.HTTPException, ValueError) as error:
                raise DeploymentError(f"the router of endpoint {self.name!r} does not respond: {error}", see) from error
        if response.status != 200:
            raise DeploymentError(f"endpoint {self.name!r}: {content['error']['message']}", see)
        return dict(content)

    def end(self, port: int | None) -> None:
        """End the router and its servers once they have responded to accepted requests; kill a router that hangs."""
        if not self.is_running():
            return
        if port is not None:
            with contextlib.suppress(DeploymentError):
                self.ask("shutdown", port)
                if wait(lambda: not self.is_running(), _END_SECONDS):
                    return
        pid = endpoint_state.read_pid(self.folder)
        if pid is not None and self.is_running():  # the lock is the proof that it is this process
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if not wait(lambda: not self.is_running(), 5.0):
            raise DeploymentError(f"the router of endpoint {self.name!r} cannot be stopped", f"kill process {pid}")

    def _started(self, state: EndpointState | None, port: int | None, say: Say) -> int:
        """Start the router unless it runs, and return its port."""
        if self.is_running() and state is None:
            self.end(None)  # its command was killed before the first deployment
        elif state is not None and self.is_running():
            if port is not None and port not in (0, state.port):
                raise DeploymentError(
                    f"--port {port}: endpoint {self.name!r} has port {state.port}",
                    "remove --port, or delete the endpoint first",
                )
            return state.port
        if state is not None:
            say(f"starting endpoint {self.name!r} again, with {counted(len(state.deployments), 'deployment')}")
            if not port:
                return self._start(loopback_listener(state.port, f"which endpoint {self.name!r} has"))
        return self._start(loopback_listener(port, kept=_kept_ports()))

    def _start(self, listener: socket.socket) -> int:
        """Start the router on a socket, in a session of its own, and return its port once it responds.

        Raises:
            DeploymentError: it cannot be started.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        if not (self.folder / endpoint_state.KEY).is_file():
            endpoint_state.write_key(self.folder, secrets.token_urlsafe(32))
        log_path = self.folder / endpoint_state.LOG
        port = int(listener.getsockname()[1])
        command = [
            sys.executable,
            "-m",
            "vision_mlops.endpoints.local.router",
            str(self.folder),
            str(listener.fileno()),
        ]
        with listener:  # the copy of this process: once the router has ended, nothing may hold the port
            try:
                with log_path.open("ab") as log:
                    process = subprocess.Popen(
                        command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                        pass_fds=(listener.fileno(),),
                    )  # fmt: skip
            except OSError as error:
                raise DeploymentError(f"the router cannot be started: {error.strerror}", "try again") from error
        _children.append(process)
        try:
            self.ask("status", port, patience=TIMEOUT_SECONDS)
        except DeploymentError as error:
            if self.is_running():
                raise
            raise DeploymentError("the router exited at once", f"see {log_path}") from error
        return port


def endpoints_folder() -> Path:
    """Return the folder with the folders of all endpoints."""
    return paths.home() / "endpoints"


def endpoint_names() -> list[str]:
    """Return the names of the endpoints on this machine, sorted."""
    return [path.parent.name for path in sorted(endpoints_folder().glob(f"*/{endpoint_state.FILE}"))]


def _kept_ports() -> set[int]:
    """Return the ports of all endpoints on this machine, also of those that are stopped."""
    found = set()
    for name in endpoint_names():
        with contextlib.suppress(DeploymentError):
            state = endpoint_state.read_state(endpoints_folder() / name)
            if state is not None:
                found.add(state.port)
    return found


def wait(until: Callable[[], object], seconds: float) -> bool:
    """Wait until the condition holds or the time is up, and return whether it holds."""
    return any(until() for _ in polls(seconds, _PAUSE_SECONDS, _PAUSE_SECONDS))


def _with_former(spec: DeploymentSpec, former: DeploymentSpec) -> DeploymentSpec:
    """Keep the options of a deployment that are not given when the same version is deployed again."""
    if (former.model, former.version, former.bundle) != (spec.model, spec.version, spec.bundle):
        return spec
    if spec.workers is None:
        spec = replace(spec, workers=former.workers)
    if not spec.environment:
        spec = replace(spec, environment=former.environment)
    return spec


def _at_rest(state: EndpointState, url: str, how: EndpointStatus, problem: str) -> Endpoint:
    deployments = tuple(
        Deployment(
            item.name, item.model, item.version, how, state.traffic.get(item.name, 0), state.mirror.get(item.name, 0),
            problem="",
        )
        for item in state.deployments
    )  # fmt: skip
    return Endpoint(state.name, "local", how, url, "none", deployments, problem, dict(state.tags))


def _overall(deployments: tuple[Deployment, ...]) -> EndpointStatus:
    """Return the state of the endpoint: ready if a deployment with traffic is."""
    states = {item.state for item in deployments if item.traffic}
    for state in (EndpointStatus.READY, EndpointStatus.CHANGING, EndpointStatus.FAILED):
        if state in states:
            return state
    return EndpointStatus.CHANGING
