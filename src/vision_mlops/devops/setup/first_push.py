"""The first push to a new repository: pipelines run only once their YAML is in it."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

from vision_mlops.core.errors import AzureError
from vision_mlops.devops.setup.project_parts import RepositoryPart

_SECONDS = 600


def push_commands(repository: RepositoryPart) -> list[str]:
    """Return commands that push the current commit of a clone."""
    url = shlex.quote(repository.url)
    return [f"git remote add azure {url}", f"git push azure HEAD:refs/heads/{repository.branch}"]


def push(repository: RepositoryPart, root: Path, authorization: str) -> None:
    """Push the current commit to a repository that is empty.

    Args:
        repository: Where.
        root: A folder of the clone.
        authorization: Header that signs in; git gets it through its environment, which other users cannot read.

    Raises:
        AzureError: git is missing, is refused, or takes more than ten minutes.
    """
    environ = {
        **os.environ,
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"http.{repository.url}.extraHeader",
        "GIT_CONFIG_VALUE_0": f"Authorization: {authorization}",
    }
    command = ["git", "push", "--quiet", repository.url, f"HEAD:refs/heads/{repository.branch}"]
    try:
        result = subprocess.run(
            command, cwd=root, env=environ, capture_output=True, text=True, timeout=_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise AzureError(f"git push to {repository.url}: {error}", "push by hand") from error
    if result.returncode:
        lines = [line for line in result.stderr.strip().splitlines() if line] or ["no reason given"]
        raise AzureError(f"git push to {repository.url}: {lines[-1]}", "; ".join(push_commands(repository)))
