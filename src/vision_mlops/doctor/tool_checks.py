"""Programs other than Python that commands call: git, make, and a container engine."""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Callable, Iterator, Mapping

from vision_mlops.containers.container_engine import ENGINE_VARIABLE, Engine
from vision_mlops.core.errors import DeploymentError
from vision_mlops.doctor.check_results import Diagnosis, ok, warning

Which = Callable[[str], str | None]


def check_tools(environ: Mapping[str, str] | None = None, which: Which = shutil.which) -> Iterator[Diagnosis]:
    """Check whether the programs are installed."""
    yield _check("git", "git", "the commit is recorded with each model", which)
    yield _check("make", "make", "the tasks of the Makefile need it", which)
    yield check_engine(os.environ if environ is None else environ, which)


def check_engine(environ: Mapping[str, str], which: Which) -> Diagnosis:
    """Check the engine that containers run in, as ``vision_mlops.containers`` finds it, and whether it is running."""
    named = environ.get(ENGINE_VARIABLE, "").strip()
    words = shlex.split(named) or [word for word in ("docker", "podman") if which(word)][:1]
    if not words:
        return warning(
            "containers",
            "neither Docker nor Podman is installed: `deploy --to docker` and images need one",
            f"sudo apt-get install --yes podman, or name another command: export {ENGINE_VARIABLE}=COMMAND",
        )
    place = which(words[0])
    if place is None:
        fix = f"install {words[0]}, or: unset {ENGINE_VARIABLE}"
        return warning("containers", f"{ENGINE_VARIABLE}={named}: {words[0]} is not installed", fix)
    try:
        Engine([place, *words[1:]]).check()
    except DeploymentError as error:
        return warning("containers", " ".join(error.message.split()), error.hint or f"see: {shlex.join(words)} version")
    return ok("containers", f"{named} ({ENGINE_VARIABLE})" if named else f"{words[0]} at {place}")


def _check(name: str, program: str, why: str, which: Which) -> Diagnosis:
    place = which(program)
    if place is None:
        return warning(name, f"{program} is not installed: {why}", f"sudo apt-get install --yes {program}")
    return ok(name, f"{program} at {place}")
