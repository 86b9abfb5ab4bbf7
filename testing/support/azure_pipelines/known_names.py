"""What exists outside of a pipeline's own files, and may therefore be named in them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from testing.support.azure_pipelines.logging_commands import commands_in
from testing.support.azure_pipelines.pipeline_model import Step


@dataclass(frozen=True)
class KnownNames:
    """The names of a project.

    Attributes:
        environments: Places of deployment jobs.
        azure_connections: Service connections to Azure.
        registry_connections: Service connections to container registries.
        groups: Names of variables by the name of their group.
        pipelines: Names of pipelines.
        outputs: Output variables by the beginning of the command that sets them, such as ``mlops models verdict``, where it
            is given the option ``--azure-devops``.
    """

    environments: tuple[str, ...] = ()
    azure_connections: tuple[str, ...] = ()
    registry_connections: tuple[str, ...] = ()
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    pipelines: tuple[str, ...] = ()
    outputs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def set_by(self, step: Step) -> tuple[set[str], set[str]]:
        """Variables that a step sets: for its job, and as its outputs."""
        own: set[str] = set()
        outputs: set[str] = set()
        for command in commands_in(step.script):
            if command.area_action == "task.setvariable" and "variable" in command.properties:
                is_output = command.properties.get("isoutput", "false").lower() == "true"
                (outputs if is_output else own).add(command.properties["variable"])
        for line in step.script.splitlines():
            words = re.sub(r"\s+", " ", line.strip())
            if "--azure-devops" in words.split():
                outputs.update(*(names for start, names in self.outputs.items() if words.startswith(f"{start} ")))
        return own, outputs
