"""What every environment of a step does, whatever it is: this Python, packages of its own, or a container."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path


class StepEnvironment:
    """What a step runs in: the environment of the engine itself, or one of the classes derived from it.

    Attributes:
        content: Changes with what is in it; empty for this Python.
        label: For the log; empty for this Python.
        container: Mark of the containers of a step; empty where there are none.
        python: The Python in it.
    """

    content: str = ""
    label: str = ""
    container: str = ""
    python: str = sys.executable

    def variables(self) -> dict[str, str]:
        """What the processes of the step need to find its programs."""
        return {"PATH": this_path()}

    def path(self) -> str | None:
        """Where its programs are looked for; None where that is not known before it runs."""
        return this_path()

    def wrapped(
        self, command: str | list[str], work: Path, data: Sequence[Path], variables: Iterable[str]
    ) -> str | list[str]:
        """The command as this machine is to run it.

        Args:
            command: Of the step.
            work: Its working folder.
            data: Files and folders that it reads and writes.
            variables: Names of the variables that are set for it.
        """
        return command

    def preparation(self, folder: Path) -> list[str] | None:
        """Command that makes it ready, with its notes in ``folder``; None where it is."""
        return None


def this_path() -> str:
    """Where the programs of this Python's environment are found, before all others."""
    return os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
