"""Runs pip: which packages its registry has, how to install them, and which package a failed installation failed at."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import PackageNotFoundError, distribution

_QUIET = ("--no-input", "--disable-pip-version-check")
_AT_ONCE = 4
_ASK_SECONDS = 60.0
_UNREACHABLE = re.compile(r"retrying|could not fetch|connection|timed? ?out|proxy", re.IGNORECASE)
# The most informative ones first.
_FAULTS = (
    re.compile(r"ERROR: Failed building wheel for (?P<name>[^\s,]+)"),
    re.compile(
        r"ERROR: Could not find a version that satisfies the requirement (?P<name>.+?) \((?:from|from versions)"
    ),
    re.compile(r"ERROR: No matching distribution found for (?P<name>.+)"),
    re.compile(r"ERROR: Cannot install (?P<name>.+?) because these package versions have conflicting dependencies"),
    re.compile(r"ERROR: Package '(?P<name>[^']+)' requires a different Python"),
    re.compile(r"(?:ERROR: )?Invalid requirement: (?P<name>.+?)(?: \(from|: |$)"),
    re.compile(r"ERROR: (?P<name>\S+) is not a valid (?:editable )?requirement"),
)
_BEGUN = re.compile(r"^\s*(?:Collecting|Processing|Obtaining) (?P<name>\S+)", re.MULTILINE)


def pip_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment for pip, without variables that would make it install elsewhere."""
    unwanted = ("PIP_USER", "PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_DRY_RUN", "PYTHONHOME")
    return {key: value for key, value in environ.items() if key not in unwanted}


def unknown_packages(requirements: Iterable[str]) -> list[str]:
    """Return the requirements whose package the registry does not have for this Python.

    If the registry cannot be reached, there are none; the installation reports the problem.
    """
    listed = [item for item in requirements if not _is_here(_name(item))]
    if not listed:
        return []
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return [item for item, known in zip(listed, pool.map(_is_known, listed), strict=True) if not known]


def _name(requirement: str) -> str:
    return re.split(r"[\[<>=!~;\s]", requirement, maxsplit=1)[0]


def _is_here(name: str) -> bool:
    try:
        distribution(name)
    except PackageNotFoundError:
        return False
    return True


def _is_known(requirement: str) -> bool:
    command = [sys.executable, "-m", "pip", "index", "versions", _name(requirement), *_QUIET]
    command += ["--retries", "1", "--timeout", "10"]
    try:
        done = subprocess.run(
            command, capture_output=True, stdin=subprocess.DEVNULL, env=pip_variables(os.environ), timeout=_ASK_SECONDS,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return True
    said = done.stderr.decode(errors="replace")
    return done.returncode == 0 or "No matching distribution found" not in said or bool(_UNREACHABLE.search(said))


def package_at_fault(output: str) -> str:
    """Return the package at which an installation failed, from the output of pip; empty if that does not say."""
    for pattern in _FAULTS:
        found = pattern.search(output)
        if found:
            return found["name"].strip().strip("'\"")
    begun = _BEGUN.findall(output)
    return str(begun[-1]) if begun and "error" in output.lower() else ""


def install_command(python: str, requirements: str) -> list[str]:
    """Return the command that installs a requirements file into the environment of a Python."""
    return [python, "-m", "pip", "install", "--requirement", requirements, *_QUIET]
