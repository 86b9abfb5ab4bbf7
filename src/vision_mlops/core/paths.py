"""Where local state lives: everything is written below one folder, ``outputs/`` unless MLOPS_HOME moves it. And where files
of the repository are that commands read.
"""

from __future__ import annotations

import os
from pathlib import Path

from vision_mlops.core.errors import ConfigError

SHIPPED = "shipped"
"""Folder of an installed package with files of the repository; the build of the wheel makes it."""


def home() -> Path:
    """Return the absolute root of all local state. It is read at each call, so that tests and shells can move it.

    Raises:
        ConfigError: MLOPS_HOME is a file or starts with an unknown ``~user``, or the working folder was deleted.
    """
    given = os.environ.get("MLOPS_HOME") or "outputs"
    try:
        found = Path(given).expanduser().resolve()
    except RuntimeError as error:
        raise ConfigError(
            f"MLOPS_HOME={given}: the home folder of this user is unknown", "give an absolute path"
        ) from error
    except FileNotFoundError as error:
        raise ConfigError("the working directory was deleted", "change to one that exists") from error
    if found.is_file():
        raise ConfigError(
            f"{found} cannot be written: it is a file", "set MLOPS_HOME to a folder; it is created if needed"
        )
    return found


def repository() -> Path:
    """Return the repository in a clone of it, else the folder with the files of it that the installed package contains."""
    package = Path(__file__).parents[1]
    shipped = package / SHIPPED
    return shipped if shipped.is_dir() else package.parents[1]
