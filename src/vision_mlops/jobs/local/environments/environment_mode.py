"""How the environments of steps are provided."""

from __future__ import annotations

from enum import StrEnum


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
