"""What every environment of a step does, whatever it is: this Python, packages of its own, or a container."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True)
class Confinement:
    """What a container has to be told of the step that runs in it.

    Attributes:
        work: Its working folder.
        data: Files and folders that it reads.
        variables: Names of the variables that are set for it.
    """

    work: Path
    data: tuple[Path, ...]
    variables: tuple[str, ...]


class StepEnvironment(Protocol):
    """What a step runs in."""

    @property
    def content(self) -> str:
        """Changes with what is in it; empty for this Python."""

    @property
    def label(self) -> str:
        """For the log; empty for this Python."""

    @property
    def container(self) -> str:
        """Mark of the containers of a step; empty where there are none."""

    @property
    def python(self) -> str:
        """The Python in it."""

    def variables(self) -> dict[str, str]:
        """What the processes of the step need to find its programs."""

    def path(self) -> str | None:
        """Where its programs are looked for; None where that is not known before it runs."""

    def wrapped(self, command: str | list[str], confinement: Confinement) -> str | list[str]:
        """The command as this machine is to run it."""

    def preparation(self, folder: Path) -> list[str] | None:
        """Command that makes it ready, with its notes in ``folder``; None where it is."""
