"""The pipelines of this repository, and a project of Azure DevOps with all that their variables name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from testing.support.azure_pipelines.agent_machine import AgentMachine
from testing.support.azure_pipelines.known_names import KnownNames
from testing.support.azure_pipelines.organisation import Connection, Definition, Organisation
from testing.support.azure_pipelines.pipeline_files import PipelineFiles
from testing.support.azure_pipelines.pipeline_run import Approve

from azureml_emulator.identity.loopback_tokens import TENANT
from azureml_emulator.identity.sign_in_routes import CLIENT

ROOT = Path(__file__).parents[3]
FOLDER = "ado_pipelines"
ENVIRONMENTS = ("dev", "prod")
PIPELINES = ("ci", "model_training", "model_deployment", "docker_image", "flask_app_deployment")
"""By name; the file of each is ``NAME_pipeline.yml``."""
OUTPUTS = {
    "mlops models verdict": ("model", "name", "version", "digest", "decision"),
    "mlops models image": ("image",),
    "mlops app deploy": ("url", "release"),
}
"""Output variables that commands set; a run that reads one which was not set is seen to fail."""


def path_of(name: str) -> str:
    """The file of a pipeline."""
    return f"{FOLDER}/{name}_pipeline.yml"


def variables_in(files: PipelineFiles, file: str) -> dict[str, str]:
    """Variables of a file in ``variables``; the group that it links is called ``group``."""
    tree = files.tree(f"{FOLDER}/variables/{file}.yml")
    return {item.get("name", "group"): str(item.get("value", item.get("group", ""))) for item in tree["variables"]}


def known_names(files: PipelineFiles) -> KnownNames:
    """What the variable files say that there is in the project."""
    common, each = variables_in(files, "pipeline_variables"), [variables_in(files, name) for name in ENVIRONMENTS]
    of_groups = tuple(variables_in(files, "group_variables"))
    return KnownNames(
        environments=tuple(one.get("environmentName", "") for one in each),
        azure_connections=tuple(one.get("serviceConnection", "") for one in each),
        registry_connections=(common.get("registryConnection", ""),),
        groups={one.get("group", ""): of_groups for one in each},
        pipelines=PIPELINES,
        outputs=OUTPUTS,
    )


def organisation(
    machine: AgentMachine,
    values: Mapping[str, Mapping[str, str]] | None = None,
    checks: Mapping[str, Approve] | None = None,
) -> Organisation:
    """The project, signed in to the emulator.

    Args:
        machine: Where jobs run.
        values: Of the variables of each group, by the name of the group.
        checks: Approvals by environment.
    """
    known = known_names(PipelineFiles(machine.sources, dict(machine.replaced)))
    given = values or {}
    groups = {
        name: {one: value for one, value in given.get(name, {}).items() if one in names}
        for name, names in known.groups.items()
    }
    return Organisation(
        machine,
        [Definition(number, name, path_of(name)) for number, name in enumerate(PIPELINES, 11)],
        [Connection(name, CLIENT, TENANT) for name in known.azure_connections],
        groups,
        checks or {},
        known,
    )
