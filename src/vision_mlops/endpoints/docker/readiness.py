"""Whether the server in a container is ready, as seen from this machine."""

from __future__ import annotations

import http.client
import json
import time
from contextlib import closing

from vision_mlops.containers.container_engine import Container, Engine
from vision_mlops.core.errors import DeploymentError
from vision_mlops.endpoints.contract import EndpointStatus
from vision_mlops.endpoints.docker.container_launch import Launch, fact
from vision_mlops.endpoints.ports import loopback_listener
from vision_mlops.serving.http.openapi import LOADING

_POLL_SECONDS = 0.05
_LOOK_SECONDS = 0.5
_LOG_LINES = 10


def free_port(wanted: int | None) -> int:
    """Return a port of the loopback interface that nobody listens on: the wanted one, or the first free one.

    Raises:
        DeploymentError: the wanted one is taken, or all are.
    """
    with loopback_listener(wanted or None) as listener:
        return int(listener.getsockname()[1])


def ask_ready(port: int) -> tuple[str, dict[str, str]]:
    """What hinders the server on a port from scoring, empty when it is ready; and the model that it has."""
    try:
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=5)) as connection:
            connection.request("GET", "/health/ready")
            response = connection.getresponse()
            content = json.loads(response.read())
    except (OSError, http.client.HTTPException, ValueError) as error:
        return f"it does not answer on port {port}: {error or type(error).__name__}", {}
    if response.status == 200:
        return "", dict(content.get("model") or {})
    return str((content.get("error") or {}).get("message") or f"HTTP {response.status}"), {}


def wait_until_ready(engine: Engine, name: str, port: int, launch: Launch, timeout_s: float) -> None:
    """Wait for the server in a container.

    Raises:
        DeploymentError: it ended, cannot get ready, or did not in time; with the last lines of its log.
    """
    deadline = time.monotonic() + timeout_s
    looked = 0.0
    while True:
        problem, model = ask_ready(port)
        if not problem:
            if (model.get("name"), model.get("version")) != (launch.model, str(launch.version)):
                raise DeploymentError(f"another server answers on port {port}", "give another one with --port")
            return
        now = time.monotonic()
        if now - looked > _LOOK_SECONDS:
            looked = now
            container = engine.find(name)
            if container is None or not container.running or container.restarts:
                raise _failure(engine, name, f"the container has ended: {ending(container)}")
            if not problem.startswith((LOADING, "it does not answer")):
                raise _failure(engine, name, f"the server cannot get ready: {problem}")
        if now > deadline:
            raise _failure(engine, name, f"it was not ready within {timeout_s:.0f} s: {problem}")
        time.sleep(_POLL_SECONDS)


def state_of(container: Container) -> tuple[EndpointStatus, str]:
    """How a deployment is, and what is wrong with it."""
    if container.status == "restarting":
        return EndpointStatus.FAILED, f"it ends again and again: {ending(container)}"
    if container.status == "running":
        problem, _model = ask_ready(int(fact(container, "port")))
        if problem.startswith(LOADING):
            return EndpointStatus.CHANGING, problem
        return (EndpointStatus.FAILED, problem) if problem else (EndpointStatus.READY, "")
    if container.status in ("created", "configured", "initialized", "paused") or not container.exit_code:
        return EndpointStatus.STOPPED, f"the container is {container.status}"
    return EndpointStatus.FAILED, ending(container)


def ending(container: Container | None) -> str:
    """How a container has ended."""
    if container is None:
        return "it has been removed"
    reason = f", {container.error}" if container.error else ""
    return "out of memory" if container.out_of_memory else f"exit code {container.exit_code}{reason}"


def _failure(engine: Engine, name: str, problem: str) -> DeploymentError:
    try:
        log = engine.logs(name, _LOG_LINES)
    except DeploymentError as error:
        log = f"(no log: {error.message})"
    return DeploymentError(f"{problem}\n{log or '(it wrote nothing)'}", "fix what its log says, and deploy again")
