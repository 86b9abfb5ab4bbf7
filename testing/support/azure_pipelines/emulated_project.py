"""The project of this repository on an emulator, signed in by service connections alone.

The emulator makes no workspaces, so one stands for dev and prod. A model goes from one to the other through the registry.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from testing.support.azure_pipelines.agent_az import write_az
from testing.support.azure_pipelines.agent_machine import AgentMachine
from testing.support.azure_pipelines.organisation import Organisation
from testing.support.azure_pipelines.pipeline_files import PipelineFiles
from testing.support.azure_pipelines.pipeline_run import Approve
from testing.support.azure_pipelines.project_pipelines import ENVIRONMENTS, ROOT, organisation, variables_in
from testing.support.emulator_process import EmulatorProcess, plain_environment

_BY_THE_PIPELINE = (
    "AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET", "AZURE_TENANT_ID", "AZURE_TOKEN_CREDENTIALS", "AZURE_SUBSCRIPTION_ID",
    "AZURE_RESOURCE_GROUP", "AZUREML_WORKSPACE_NAME", "AZUREML_REGISTRY_NAME", "MLOPS_AZURE_KEY_VAULT",
)  # fmt: skip
"""What a pipeline must bring itself: the machine has none of it."""
_IDENTITY = "/subscriptions/{}/resourceGroups/{}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/id-pull"
PATIENCE = (20.0, 2.5)


class EmulatedProject:
    """The project, its agent, and the emulator behind them.

    Args:
        running: The emulator.
        folder: For the agent.
    """

    def __init__(self, running: EmulatorProcess, folder: Path) -> None:
        self.running = running
        self.folder = folder
        self.calls = folder / "az.calls"
        write_az(folder / "bin", running.state.work / "images", self.calls)

    def values(self) -> dict[str, dict[str, str]]:
        """The variable groups, as `make infra-up` would fill them: another web app in each environment."""
        known = self.running.variables
        shared = {name: known[name] for name in known if name.startswith(("AZURE", "MLOPS_"))} | {
            "MLOPS_AZURE_CONTAINER_REGISTRY": "crvision.azurecr.io",
            "MLOPS_AZURE_INFERENCING_IMAGE": "crvision.azurecr.io/mlops-inferencing:main",
            "MLOPS_AZURE_PULL_IDENTITY": _IDENTITY.format(
                known["AZURE_SUBSCRIPTION_ID"], known["AZURE_RESOURCE_GROUP"]
            ),
        }
        own = {
            "dev": {"MLOPS_WEB_APP": "vision-app-dev"},
            "prod": {"MLOPS_WEB_APP": "vision-app"},
        }
        files = PipelineFiles(ROOT)
        return {variables_in(files, name)["group"]: {**shared, **own[name]} for name in ENVIRONMENTS}

    def environment(self) -> dict[str, str]:
        """Of the agent: the way to the emulator, and no sign-in."""
        return without_pipeline_variables(self.running.environment, self.folder / "bin")

    def client(self, name: str) -> dict[str, str]:
        """The environment of a person who works with one of the two environments."""
        group = variables_in(PipelineFiles(ROOT), name)["group"]
        home = {"MLOPS_HOME": str(self.folder / "home"), "MLOPS_REGISTRY": "azure"}
        return {**self.running.environment, **self.values()[group], **home}

    def open(self, checks: Mapping[str, Approve]) -> Organisation:
        """The project of Azure DevOps."""
        machine = AgentMachine(ROOT, self.folder / "agent", self.environment(), PATIENCE)
        return organisation(machine, self.values(), checks)


def without_pipeline_variables(environment: Mapping[str, str], programs: Path) -> dict[str, str]:
    """An environment for an agent, with programs that come first on its PATH."""
    kept = {name: value for name, value in environment.items() if name not in _BY_THE_PIPELINE}
    return {**kept, "PATH": f"{programs}:{kept['PATH']}", "MPLBACKEND": "Agg"}


def plain_agent(programs: Path) -> dict[str, str]:
    """An environment for an agent that reaches nothing of Azure."""
    return without_pipeline_variables(plain_environment(), programs)
