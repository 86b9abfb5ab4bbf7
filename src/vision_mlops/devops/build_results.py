"""What a step reports to the pipeline that it runs in: values for later steps, a tag, and a page for people.

Azure DevOps reads lines of standard output; GitHub reads files that it names in the environment.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from vision_mlops.core import paths
from vision_mlops.core.errors import ConfigError
from vision_mlops.core.files import atomic_write

_ESCAPES = (("%", "%AZP25"), ("\r", "%0D"), ("\n", "%0A"))
_NOT_IN_A_TAG = re.compile(r"[^A-Za-z0-9._-]+")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class AzureDevOpsRun:
    """A run on Azure DevOps.

    Args:
        write: Prints a line on standard output.
        folder: Folder for the pages, which the agent reads after the step.
    """

    def __init__(self, write: Callable[[str], None], folder: Path) -> None:
        self._write, self._folder = write, folder

    def output(self, name: str, value: str) -> None:
        """Set an output variable: ``$(STEP.NAME)``."""
        self._write(f"##vso[task.setvariable variable={_checked(name)};isOutput=true]{_escaped(value)}")

    def tag(self, text: str) -> None:
        """Add a build tag."""
        self._write(f"##vso[build.addbuildtag]{_NOT_IN_A_TAG.sub('-', text)}")

    def summary(self, title: str, page: str) -> None:
        """Show a page with the run; its title is the name of the file."""
        file = self._folder / f"{_NOT_IN_A_TAG.sub('-', title)}.md"
        atomic_write(file, page)
        self._write(f"##vso[task.uploadsummary]{_escaped(str(file.resolve()))}")


class GitHubRun:
    """A run on GitHub.

    Args:
        outputs: File for the outputs of the step.
        page: File for the summary of the step.
    """

    def __init__(self, outputs: Path, page: Path) -> None:
        self._outputs, self._page = outputs, page

    def output(self, name: str, value: str) -> None:
        """Set an output: ``steps.STEP.outputs.NAME``."""
        if "\n" in value or "\r" in value:
            raise ConfigError(f"output {name}: {value!r} has more than one line", "give a value of one line")
        _append(self._outputs, f"{_checked(name)}={value}\n")

    def tag(self, text: str) -> None:
        """Do nothing: runs on GitHub have no tags, and the summary has the verdict."""

    def summary(self, title: str, page: str) -> None:
        """Add a page, which includes its title, to the summary."""
        _append(self._page, page + "\n")


BuildRun = AzureDevOpsRun | GitHubRun
"""The run of a pipeline."""


def open_build(
    write: Callable[[str], None], environ: Mapping[str, str] | None = None, *, azure_devops: bool, github: bool
) -> BuildRun | None:
    """Return the run that was asked for; None if none was.

    Raises:
        ConfigError: both are asked for, or this is not a step of a workflow on GitHub.
    """
    environ = os.environ if environ is None else environ
    if azure_devops and github:
        raise ConfigError("--azure-devops and --github exclude each other", "give one of them")
    if azure_devops:
        place = environ.get("AGENT_TEMPDIRECTORY", "").strip()
        return AzureDevOpsRun(write, Path(place) if place else paths.home() / "builds")
    if not github:
        return None
    names = ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")
    missing = [name for name in names if not environ.get(name, "").strip()]
    if missing:
        raise ConfigError(f"--github: {' and '.join(missing)} not set", "use it only in a step of a workflow on GitHub")
    return GitHubRun(*(Path(environ[name]) for name in names))


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ConfigError(f"{name!r} cannot be the name of an output", "use letters, digits and _")
    return name


def _escaped(text: str) -> str:
    for sign, escape in _ESCAPES:
        text = text.replace(sign, escape)
    return text


def _append(file: Path, text: str) -> None:
    try:
        with file.open("a", encoding="utf-8") as stream:
            stream.write(text)
    except OSError as error:
        raise ConfigError(
            f"{file} cannot be written: {error.strerror}", "check the variables of the workflow"
        ) from error
