"""Where the template of a project can be fetched from later, so that `copier update` finds its next tag."""

from __future__ import annotations

import json
import subprocess
import tomllib
from importlib.metadata import Distribution
from pathlib import Path

from vision_mlops import __version__
from vision_mlops.core.errors import ConfigError
from vision_mlops.core.paths import repository

_PACKAGE = "vision-mlops"


def template_origin() -> dict[str, str]:
    """Find where this package is from: the clone that it runs in, what pip installed, or its metadata.

    Returns:
        Answers of the template: ``template_repository``, an address as git takes it, and ``template_ref``, a tag or commit.

    Raises:
        ConfigError: the metadata name none.
    """
    root = repository()
    if (root / "pyproject.toml").is_file():
        return _of_clone(root)
    distribution = Distribution.from_name(_PACKAGE)
    installed = json.loads(distribution.read_text("direct_url.json") or "{}")  # PEP 610
    if installed.get("vcs_info", {}).get("vcs") == "git":
        information = installed["vcs_info"]
        return _answers(installed["url"], information.get("requested_revision") or information["commit_id"])
    for line in distribution.metadata.get_all("Project-URL") or ():
        label, _, address = line.partition(", ")
        if label == "Repository":
            return _answers(address, f"v{__version__}")
    raise ConfigError(
        "the metadata of this package name no repository, so the project could not be updated later",
        "give the template with --template ADDRESS",
    )


def _of_clone(root: Path) -> dict[str, str]:
    """Return the remote ``origin`` of a clone, or the clone itself if others cannot reach that."""
    remote = _git(root, "remote", "get-url", "origin")
    ref = _git(root, "describe", "--tags", "--always", "--match", "v*")
    if not ref:  # an archive of the repository, without its history
        project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        return _answers(project["urls"]["Repository"], f"v{__version__}")
    reachable = "://" in remote or remote.startswith("git@")
    return _answers(remote if reachable else str(root), ref)


def _answers(repository: str, ref: str) -> dict[str, str]:
    return {"template_repository": repository, "template_ref": ref}


def _git(root: Path, *words: str) -> str:
    """Return what git says about a repository with this root; empty if it is none, or git is not installed."""
    command = ["git", "-C", str(root), *words]
    if not (root / ".git").exists():
        return ""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
