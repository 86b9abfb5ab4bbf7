"""The commit that a run was made from."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

VARIABLE = "MLOPS_GIT_COMMIT"
"""Set for the steps of a job, whose working directory is outside of the repository."""


def git_commit(folder: Path | None = None) -> str:
    """Return the commit of a folder's repository, with ``-dirty`` if files were changed; empty outside a repository.

    Args:
        folder: The working directory by default, unless MLOPS_GIT_COMMIT says the commit.
    """
    if folder is None and VARIABLE in os.environ:
        return os.environ[VARIABLE]
    try:
        result = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            capture_output=True,
            text=True,
            check=False,
            timeout=10,
            cwd=folder,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return result.stdout.strip() if result.returncode == 0 else ""
