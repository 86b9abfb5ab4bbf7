"""Chooses what each step of a job runs in, by the mode of the job and the definition of the step."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable
from pathlib import Path

from vision_mlops.jobs.definitions.plan.nodes import Node
from vision_mlops.jobs.local.environments.conda_files import CondaRequirements, read_conda_file
from vision_mlops.jobs.local.environments.environment_contract import EnvironmentMode, StepEnvironment
from vision_mlops.jobs.local.environments.environment_definitions import EnvironmentDefinition, environment_definition
from vision_mlops.jobs.local.environments.pip_client import unknown_packages
from vision_mlops.jobs.local.environments.virtual_environment import VirtualEnvironment


class StepEnvironments:
    """The environments of the steps of one job.

    Args:
        mode: What their definitions mean on this machine.
    """

    def __init__(self, mode: EnvironmentMode) -> None:
        self.mode = mode
        self._found: dict[tuple[str, Path], tuple[StepEnvironment, tuple[str, ...]]] = {}

    def of(self, node: Node) -> StepEnvironment:
        """Return what a step runs in.

        Raises:
            PipelineError: its definition cannot be read, or does not name the image of a container.
            DeploymentError: no container engine is available, or it is not running.
        """
        return self._of(node)[0]

    def notes(self, nodes: Iterable[Node]) -> list[str]:
        """List what is not available here as the definitions ask for it, each with the steps concerned."""
        steps: dict[str, list[str]] = {}
        for node in nodes:
            for note in self._of(node)[1]:
                steps.setdefault(note, []).append(node.step)
        return [f"environment of {', '.join(names)}: {note}" for note, names in steps.items()]

    def _of(self, node: Node) -> tuple[StepEnvironment, tuple[str, ...]]:
        key = node.environment, node.environment_file
        if key not in self._found:
            self._found[key] = self._open(node)
        return self._found[key]

    def _open(self, node: Node) -> tuple[StepEnvironment, tuple[str, ...]]:
        if self.mode is EnvironmentMode.HOST:
            return StepEnvironment(), ()
        definition = environment_definition(node)
        where = f"step {node.step!r}"
        if self.mode is EnvironmentMode.DOCKER:
            from vision_mlops.jobs.local.environments.step_containers import open_container

            return open_container(definition, node, where), ()
        if definition.own or definition.conda_file is None:
            return StepEnvironment(), _unused(definition)
        asked = read_conda_file(definition.conda_file, definition.base, where)
        if (asked.name and EnvironmentDefinition(asked.name, "", None, None, asked.base).own) or not asked.lines:
            return StepEnvironment(), asked.notes
        return _with_packages(asked)


def _unused(definition: EnvironmentDefinition) -> tuple[str, ...]:
    if definition.build is None or definition.own:
        return ()
    return (
        "its Dockerfile is not built and the steps run in this Python; --environment docker runs them in the image",
    )


def _with_packages(asked: CondaRequirements) -> tuple[StepEnvironment, tuple[str, ...]]:
    """Return a virtual environment without the conda packages that the registry lacks, and notes that name those."""
    series = f"{sys.version_info.major}.{sys.version_info.minor}"
    content = hashlib.sha256("\n".join([series, *asked.content()]).encode("utf-8", "surrogateescape")).hexdigest()
    environment = VirtualEnvironment(content, asked.lines, asked.base)
    built = environment.installed()
    if built is None:
        unknown = set(unknown_packages(asked.of_conda.values()))
    else:
        unknown = {item for item in asked.of_conda.values() if item not in built}
    lines = tuple(line for line in asked.lines if line not in unknown)
    names = [name for name, requirement in asked.of_conda.items() if requirement in unknown]
    notes = [f"conda package {name!r} is not in the Python registry and is left out" for name in names]
    if not lines:
        return StepEnvironment(), (*asked.notes, *notes)
    return VirtualEnvironment(content, lines, asked.base), (*asked.notes, *notes)
