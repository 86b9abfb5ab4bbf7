"""Whether the server in a container is ready, as seen from this machine."""

from __future__ import annotations

import time

from vision_mlops.containers.container_engine import Container, Engine
from vision_mlops.core.errors import DeploymentError
from vision_mlops.endpoints.contract import EndpointStatus
from vision_mlops.endpoints.docker.container_launch import Launch, fact
from vision_mlops.endpoints.polling import polls
from vision_mlops.endpoints.ports import loopback_listener
from vision_mlops.serving.server_health import ask

_POLL_SECONDS = 0.05
_LOOK_SECONDS = 0.5
_LOG_LINES = 10


def free_port(wanted: int | None, whose: str = "asked for with --port") -> int:
    """Return a free port of the loopback interface: the wanted one, or the first free one.

    Args:
        wanted: Number of the port.
        whose: Where that number comes from, for the error.

    Raises:
        DeploymentError: the wanted port is taken, or all are.
    """
    with loopback_listener(wanted or None, whose) as listener:
        return int(listener.getsockname()[1])


def wait_until_ready(engine: Engine, name: str, port: int, launch: Launch, timeout_s: float) -> None:
    """Wait for the server in a container.

    Raises:
        DeploymentError: it ended, cannot get ready, or did not in time; with the last lines of its log.
    """
    looked = 0.0
    for late in polls(timeout_s, _POLL_SECONDS, _POLL_SECONDS):
        found = ask(f"http://127.0.0.1:{port}")
        if found.ready:
            wanted = launch.request.model
            if (found.model.get("name"), found.model.get("version")) != (wanted.name, str(wanted.version)):
                raise DeploymentError(f"another server responds on port {port}", "give another one with --port")
            return
        now = time.monotonic()
        if now - looked > _LOOK_SECONDS:
            looked = now
            container = engine.find(name)
            if container is None or not container.running or container.restarts:
                raise _failure(engine, name, f"the container has exited: {ending(container)}")
            if found.final:
                raise _failure(engine, name, f"the server cannot become ready: {found.problem}")
        if late:
            raise _failure(engine, name, f"it was not ready within {timeout_s:.0f} s: {found.problem}")


def state_of(container: Container) -> tuple[EndpointStatus, str]:
    """Return the state of a deployment, and what is wrong with it."""
    if container.status == "restarting":
        return EndpointStatus.FAILED, f"it exits again and again: {ending(container)}"
    if container.status == "running":
        found = ask(f"http://127.0.0.1:{fact(container, 'port')}")
        if found.ready:
            return EndpointStatus.READY, ""
        changes = found.reached and not found.final
        return EndpointStatus.CHANGING if changes else EndpointStatus.FAILED, found.problem
    if container.status in ("created", "configured", "initialized", "paused") or not container.exit_code:
        return EndpointStatus.STOPPED, f"the container is {container.status}"
    return EndpointStatus.FAILED, ending(container)


def ending(container: Container | None) -> str:
    """Return how a container has ended."""
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
