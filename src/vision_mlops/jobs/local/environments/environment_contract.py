"""What every environment of a step provides: this Python, one with other packages, or a container; and how it is chosen."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from enum import StrEnum
from pathlib import Path


class EnvironmentMode(StrEnum):
    """What the environment of a definition means on this machine.

    Attributes:
        AUTO: A conda file means a virtual environment with its packages, everything else this Python.
        HOST: This Python, whatever the definition says.
        DOCKER: The image or Dockerfile of the definition, in Docker or Podman.
    """

    AUTO = "auto"
    HOST = "host"
    DOCKER = "docker"


class StepEnvironment:
    """What a step runs in: the environment of the engine itself, or one of the classes derived from it.

    Attributes:
        content: Identifies what is installed in it; empty for this Python.
        label: Name in logs; empty for this Python.
        container: Label of the containers of a step; empty if there are none.
        python: The Python in it.
    """

    content: str = ""
    label: str = ""
    container: str = ""
    python: str = sys.executable

    def variables(self) -> dict[str, str]:
        """Return the variables that the step needs to find its programs."""
        return {"PATH": this_path()}

    def path(self) -> str | None:
        """Return where programs are looked for; None if that is unknown before it runs."""
        return this_path()

    def wrapped(
        self, command: str | list[str], work: Path, data: Sequence[Path], variables: Iterable[str]
    ) -> str | list[str]:
        """Return the command that this machine runs for a command of the step.

        Args:
            command: Command of the step.
            work: Its working folder.
            data: Files and folders that it reads and writes.
            variables: Names of the variables that are set for it.
        """
        return command

    def preparation(self, folder: Path) -> list[str] | None:
        """Return the command that makes it ready, with its notes in ``folder``; None if it is ready."""
        return None


def this_path() -> str:
    """Return the search path on which the programs of this Python's environment come first."""
    return os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
