"""The container engine of this machine, through the command line of Docker, or of Podman, which is the same.

Only output that is the same for both is parsed: identifiers, and the JSON of ``inspect``.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from vision_mlops.core.errors import DeploymentError

ENGINE_VARIABLE = "MLOPS_CONTAINER_ENGINE"
RUN_VARIABLE = "MLOPS_CONTAINER_RUN_OPTIONS"
BUILD_VARIABLE = "MLOPS_CONTAINER_BUILD_OPTIONS"
STOP_SECONDS = 40
"""Longer than the server takes to respond to accepted requests; then the engine kills it."""
_HOST_NETWORK = ("--network=host", "--net=host")
_KNOWN = (
    (
        ("cannot connect to the docker daemon", "is the docker daemon running", "error during connect",
         "cannot connect to podman", "failed to connect to the docker api"),
        "the container engine is not running", "start it, for example with `sudo systemctl start docker`",
    ),
    (
        ("permission denied while trying to connect", "dial unix /var/run/docker.sock: connect: permission denied"),
        "this user may not use the container engine", "sudo usermod -aG docker $USER, then sign in again",
    ),
    (
        ("pull access denied", "unauthorized", "authentication required", "denied: requested access",
         "access to the resource is denied"),
        "the registry does not release the image",
        "check its name, and sign in: `az acr login --name REGISTRY`, or `docker login`",
    ),
    (
        ("manifest unknown", "no such image", "name unknown", "not found: manifest", "image not known"),
        "the image does not exist", "check its name and tag, or push it first",
    ),
    (
        ("port is already allocated", "address already in use", "ports are not available"),
        "the port is taken", "give another one with --port, or stop what uses it",
    ),
    (("no space left on device",), "the disk is full", "free space, for example with `docker image prune`"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Container:
    """The current state of a container. ``status`` is the engine's word: running, exited, created, restarting, ..."""

    id: str
    name: str
    status: str
    exit_code: int
    error: str
    restarts: int
    out_of_memory: bool
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def running(self) -> bool:
        """Whether its process is running."""
        return self.status == "running"

    @property
    def active(self) -> bool:
        """Whether it is running, or will run again by itself."""
        return self.status in ("running", "restarting", "paused")


class Engine:
    """Runs the engine's commands.

    Args:
        words: The command, and options before every subcommand.
        run_options: Further options for ``create``.
        build_options: Further options for ``build``.
    """

    def __init__(
        self, words: Sequence[str], run_options: Sequence[str] = (), build_options: Sequence[str] = ()
    ) -> None:
        self.words = tuple(words)
        self.run_options = tuple(run_options)
        self.build_options = tuple(build_options)

    @property
    def name(self) -> str:
        """Name of its command."""
        return Path(self.words[0]).name

    @property
    def host_network(self) -> bool:
        """Whether containers share the network of this machine, so that no port can be published."""
        return any(option in _HOST_NETWORK for option in self.run_options) or any(
            pair in (("--network", "host"), ("--net", "host")) for pair in pairwise(self.run_options)
        )

    def call(self, *arguments: str, log: Path | None = None, long: bool = False, merged: bool = False) -> str:
        """Run a command to its end, and return its output.

        Args:
            arguments: Arguments of the engine.
            log: File for its output, if that is long.
            long: Let Ctrl-C end the command as well; else wait for it, so that its effect is complete and can be undone.
            merged: Return what it writes to stderr as well, in order.

        Raises:
            DeploymentError: the engine is missing or refuses; says how to fix it, if that is known.
        """
        try:
            with log.open("wb") if log is not None else contextlib.nullcontext(subprocess.PIPE) as stream:
                process = subprocess.Popen(
                    [*self.words, *arguments], stdin=subprocess.DEVNULL, stdout=stream,
                    stderr=subprocess.STDOUT if merged else stream, start_new_session=not long,
                )  # fmt: skip
                try:
                    out, err = process.communicate()
                except KeyboardInterrupt:
                    process.communicate()
                    raise
        except OSError as error:
            raise DeploymentError(
                f"the container engine {self.words[0]!r} cannot be run: {error.strerror}",
                f"install Docker or Podman, or name another command with {ENGINE_VARIABLE}",
            ) from error
        if log is not None:
            out = err = log.read_bytes()
        if process.returncode:
            raise _explained(f"{self.name} {arguments[0]}", (err or out).decode(errors="replace"))
        return out.decode(errors="replace")

    def check(self) -> None:
        """Check that the engine responds. Raises DeploymentError, with how to fix it if that is known."""
        self.call("version")

    # Containers

    def containers(self, labels: Mapping[str, str]) -> list[Container]:
        """Return all containers with these labels, including those that are not running."""
        filters = [word for name, value in labels.items() for word in ("--filter", f"label={name}={value}")]
        found = self.call("ps", "-a", "-q", "--no-trunc", *filters).split()
        return [item for id_ in found if (item := self.find(id_)) is not None]

    def find(self, name: str) -> Container | None:
        """Return a container by its name or id; None if it does not exist."""
        try:
            content = json.loads(self.call("container", "inspect", name))
        except DeploymentError as error:
            if _is_missing(error):
                return None
            raise
        return _container(content[0])

    def create(self, name: str, image: str, options: Sequence[str], command: Sequence[str] = ()) -> str:
        """Create a container without starting it; returns its id."""
        output = self.call("create", "--name", name, *options, *self.run_options, image, *command)
        return output.split()[-1]

    def start(self, name: str) -> None:
        """Start a container, or start it again."""
        self.call("start", name)

    def stop(self, name: str) -> None:
        """Let a container finish accepted requests, and stop it."""
        self.call("stop", "-t", str(STOP_SECONDS), name)

    def rename(self, name: str, new: str) -> None:
        """Give a container another name."""
        self.call("rename", name, new)

    def remove(self, name: str) -> None:
        """Remove a container in any state, if it exists."""
        try:
            self.call("rm", "-f", name)
        except DeploymentError as error:
            if not _is_missing(error):
                raise

    def logs(self, name: str, lines: int) -> str:
        """Return the last lines that a container has written, in order."""
        return self.call("logs", "--tail", str(lines), name, merged=True).rstrip("\n")

    # Images

    def image(self, reference: str) -> tuple[str, Mapping[str, str]] | None:
        """Return the id and labels of an image on this machine; None if it is missing."""
        try:
            content = json.loads(self.call("image", "inspect", reference))[0]
        except DeploymentError as error:
            if any(words in str(error).lower() for words in ("no such image", "not known", "the image does not exist")):
                return None
            raise
        return str(content["Id"]).removeprefix("sha256:"), (content.get("Config") or {}).get("Labels") or {}

    def pull(self, reference: str) -> None:
        """Pull an image from its registry."""
        self.call("pull", reference, long=True)

    def build(self, context: Path, dockerfile: Path, tags: Sequence[str], options: Sequence[str], log: Path) -> None:
        """Build an image. Raises DeploymentError with the last lines of the output."""
        names = [word for tag in tags for word in ("-t", tag)]
        self.call(
            "build", *self.build_options, *options, "-f", str(dockerfile), *names, str(context), log=log, long=True
        )


def open_engine() -> Engine:
    """Return the engine of this machine: the command in MLOPS_CONTAINER_ENGINE, else Docker, else Podman.

    Raises:
        DeploymentError: neither is installed, or a variable cannot be parsed.
    """
    words = _words(ENGINE_VARIABLE)
    if not words:
        found = next((name for name in ("docker", "podman") if shutil.which(name)), None)
        if found is None:
            raise DeploymentError(
                "no container engine is available: neither docker nor podman is installed",
                f"install one (compute instances of Azure ML have Docker), or set {ENGINE_VARIABLE}",
            )
        words = [found]
    return Engine(words, _words(RUN_VARIABLE), _words(BUILD_VARIABLE))


def _is_missing(error: DeploymentError) -> bool:
    return any(words in str(error).lower() for words in ("no such container", "no container with"))


def _words(variable: str) -> list[str]:
    try:
        return shlex.split(os.environ.get(variable, ""))
    except ValueError as error:
        raise DeploymentError(f"{variable} cannot be parsed: {error}", "write it as on a command line") from error


def _container(content: Mapping[str, Any]) -> Container:
    state = content["State"]
    return Container(
        str(content["Id"]),
        str(content["Name"]).removeprefix("/"),
        str(state["Status"]),
        int(state.get("ExitCode") or 0),
        str(state.get("Error") or ""),
        int(content.get("RestartCount") or 0),
        bool(state.get("OOMKilled")),
        (content.get("Config") or {}).get("Labels") or {},
    )


def _explained(command: str, output: str) -> DeploymentError:
    """Return the error in the engine's output, with how to fix it, if that is known."""
    said = [line.strip() for line in output.splitlines() if line.strip()]
    text = output.lower()
    for words, meaning, hint in _KNOWN:
        if any(word in text for word in words):
            cause = next((line for line in reversed(said) if any(word in line.lower() for word in words)), "")
            return DeploymentError(f"{meaning}: {cause}" if cause else meaning, hint)
    return DeploymentError(f"`{command}` failed: " + "\n".join(said[-15:] or ["no output"]))
