"""Programs other than Python that commands call: git, make, and a container engine."""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from vision_mlops.containers.container_engine import ENGINE_VARIABLE
from vision_mlops.doctor.check_results import Diagnosis, ok, warning

Which = Callable[[str], str | None]
_DOCKER_SOCKET = Path("/var/run/docker.sock")


def check_tools(environ: Mapping[str, str] | None = None, which: Which = shutil.which) -> Iterator[Diagnosis]:
    """Check whether the programs are installed."""
    yield _check("git", "git", "the commit is recorded with each model", which)
    yield _check("make", "make", "the tasks of the Makefile need it", which)
    yield check_engine(os.environ if environ is None else environ, which)


def check_engine(environ: Mapping[str, str], which: Which, socket: Path = _DOCKER_SOCKET) -> Diagnosis:
    """Check the engine that containers run in, as ``vision_mlops.containers`` finds it, without starting it."""
    named = environ.get(ENGINE_VARIABLE, "").strip()
    if named:
        word = shlex.split(named)[0]
        if which(word) is None:
            fix = f"install {word}, or: unset {ENGINE_VARIABLE}"
            return warning("containers", f"{ENGINE_VARIABLE}={named}: {word} is not installed", fix)
        return ok("containers", f"{named} ({ENGINE_VARIABLE})")
    found = next((word for word in ("docker", "podman") if which(word)), None)
    if found is None:
        return warning(
            "containers",
            "neither Docker nor Podman is installed: `deploy --to docker` and images need one",
            f"sudo apt-get install --yes podman, or name another command: export {ENGINE_VARIABLE}=COMMAND",
        )
    if found == "docker" and socket.exists() and not os.access(socket, os.R_OK | os.W_OK):
        fix = "sudo usermod -aG docker $USER, and sign in again"
        return warning("containers", "Docker is installed, but this user may not use it", fix)
    return ok("containers", f"{found} at {which(found)}")


def _check(name: str, program: str, why: str, which: Which) -> Diagnosis:
    place = which(program)
    if place is None:
        return warning(name, f"{program} is not installed: {why}", f"sudo apt-get install --yes {program}")
    return ok(name, f"{program} at {place}")
