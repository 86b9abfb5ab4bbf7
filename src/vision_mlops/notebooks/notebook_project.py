"""The project that a notebook belongs to: its folder, its workload, and where the results of the pipeline are."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from vision_mlops.config import load_workload
from vision_mlops.config.workload import Workload
from vision_mlops.config.workload_files import own_workloads, workload_content
from vision_mlops.core import paths
from vision_mlops.core.errors import ConfigError
from vision_mlops.core.files import atomic_write

VARIABLE = "MLOPS_WORKLOAD"
_DEFAULT = "textile"
_VERSIONS = "versions.json"
_MARKS = ("pyproject.toml", "workloads")


@dataclass(frozen=True, slots=True)
class NotebookProject:
    """A project. Paths are relative to its root, which is the working folder.

    Attributes:
        root: Its folder.
        reference: The workload as `--workload` takes it.
        workload: What the notebooks are about.
    """

    root: Path
    reference: str
    workload: Workload

    @property
    def name(self) -> str:
        """Name of the workload, its data asset and its model."""
        return self.workload.name

    @property
    def data(self) -> Path:
        """Prepared data."""
        return self._below("data", self.name)

    @property
    def notes(self) -> Path:
        """Folder for what the notebooks themselves write."""
        return self._below("notebooks", self.name)

    @property
    def content(self) -> str:
        """The workload as JSON, as pipelines take it."""
        return workload_content(self.workload)

    @property
    def job_inputs(self) -> list[str]:
        """Options that make a job with the inputs ``workload`` and ``data`` that of this project."""
        data = f"inputs.data.path=azureml:{self.name}@latest"
        return ["--set", f"inputs.workload={self.content}", "--set", data]

    def remember(self, **versions: str) -> None:
        """Note registered versions by a word of this project, for the notebooks that follow."""
        atomic_write(self.notes / _VERSIONS, json.dumps({**self._versions(), **versions}, indent=2) + "\n")

    def version(self, word: str) -> str:
        """Return a version that :meth:`remember` has noted, such as ``textile:3``.

        Raises:
            ConfigError: none was noted under the word.
        """
        known = self._versions()
        if word not in known:
            raise ConfigError(f"no notebook has registered a version as {word!r}", "run the notebooks before this one")
        return known[word]

    def _versions(self) -> dict[str, str]:
        file = self.notes / _VERSIONS
        return dict(json.loads(file.read_text(encoding="utf-8"))) if file.exists() else {}

    def _below(self, *parts: str) -> Path:
        path = paths.home().joinpath(*parts)
        return path.relative_to(self.root) if path.is_relative_to(self.root) else path

    def test_images(self, most: int) -> list[Path]:
        """List images of the test split, one of each class after the other."""
        classes = [sorted(folder.iterdir()) for folder in sorted((self.data / "test").iterdir())]
        return [file for files in zip_longest(*classes) for file in files if file is not None][:most]


def open_project() -> NotebookProject:
    """Find the project around the working folder, go to its root, and load its workload.

    The workload is that of ``MLOPS_WORKLOAD``, else the first of the project's own in ``workloads/``, else textile.

    Raises:
        ConfigError: this is not in a project, or its workload has mistakes.
    """
    here = Path.cwd()
    root = next((folder for folder in (here, *here.parents) if any((folder / mark).exists() for mark in _MARKS)), None)
    if root is None:
        raise ConfigError(
            f"{here} is not in a project: neither it nor a folder above has {' or '.join(_MARKS)}",
            "open the notebook in the folder `notebooks` of a project",
        )
    os.chdir(root)
    own = own_workloads()
    reference = os.environ.get(VARIABLE) or (own[0] if own else _DEFAULT)
    return NotebookProject(root, reference, load_workload(reference))
