"""The two seams of the emulator: the command that runs a submitted job, and the command that serves a container.

The emulator imports nothing of the tool that it starts. Everything that it assumes about that tool is in this module
and in :mod:`azureml_emulator.jobs.reported_states`, which reads the progress of a job.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_FOREIGN = (
    "AZURE",
    "ARM_",
    "DEFAULT_IDENTITY_",
    "IDENTITY_",
    "IMDS_",
    "MLFLOW_",
    "MLOPS_",
    "MSI_",
    "REQUESTS_CA_BUNDLE",
)

MARK = "LOOPBACK_CLOUD_STATE"
"""Variable that identifies the processes of an emulator: its state folder."""
VISION_TRAINING, VISION_PREDICTION = "ws-vision-train", "ws-vision-predict"
"""Accounts of Custom Vision that an emulator initially has."""


@dataclass(frozen=True)
class ProcessCommands:
    """The command lines that the emulator starts, each in a separate process.

    Attributes:
        job: Runs a job. It is called with ``run FILE --name NAME --on local``, where ``FILE`` is a job in Azure ML v2 YAML
            with its code and data beside it. It writes below the folder ``MLOPS_HOME``: the progress of the job to
            ``jobs/NAME/state.json``, and what the job logs to the MLflow store ``mlflow.db``. It ends when the job has
            ended; ``SIGINT`` cancels the job. After it was killed, ``resume NAME`` continues the job, whose steps find
            what they wrote to the outputs that they keep.
        serve: Serves a model over HTTP, as the deployed image does. It is called with ``--port-file FILE`` and
            writes the port that it listens on to that file. A container group passes the folder of the model as its
            first argument, and ``--host`` and ``--port``; a deployment of an online endpoint passes the same in the
            variables ``AZUREML_MODEL_DIR``, ``MLOPS_HOST`` and ``MLOPS_PORT``, as Azure ML does. It responds on the routes
            of the probes, and ends on ``SIGTERM`` or is killed.
    """

    job: tuple[str, ...] = (sys.executable, "-m", "vision_mlops", "job")
    serve: tuple[str, ...] = (sys.executable, "-m", "vision_mlops", "serve")

    def job_line(self, definition: Path, name: str) -> list[str]:
        """Return the command that runs a definition under a name."""
        return [*self.job, "run", str(definition), "--name", name, "--on", "local"]

    def resumed_job_line(self, name: str) -> list[str]:
        """Return the command that continues a job whose process was killed."""
        return [*self.job, "resume", name]

    def job_variables(self, home: Path, step_variables: Path) -> dict[str, str]:
        """Return the variables of its process: the folder of its state, and the file with the variables of the steps."""
        return {"MLOPS_HOME": str(home), "MLOPS_STEP_VARIABLES": str(step_variables)}

    def group_line(self, bundle: Path, port_file: Path) -> list[str]:
        """Return the command of a container in a group: this machine only has loopback, and a free port for each."""
        return [*self.serve, str(bundle), "--host", "127.0.0.1", "--port", "0", "--port-file", str(port_file)]

    def group_variables(self, home: Path) -> dict[str, str]:
        """Return the variables of its process, unless the group overrides them: one worker, and a separate home."""
        return {"MLOPS_HOME": str(home), "MLOPS_SERVING__WORKERS": "1"}

    def image_variables(self) -> dict[str, str]:
        """Return the variables that a pulled image is assumed to set: it serves the model at a place in the container."""
        return {"MLOPS_BUNDLE": "/model"}

    def container_line(self, arguments: Sequence[str]) -> list[str]:
        """Return the command of a container of a compute instance's Docker, with the arguments after the image's name."""
        return [*self.serve, *arguments]

    def container_variables(self, given: Mapping[str, str], port: int) -> dict[str, str]:
        """Return the variables of its process: listen on loopback, on the published port."""
        return {**given, "MLOPS_HOST": "127.0.0.1", "MLOPS_PORT": str(port)}

    def site_variables(self) -> dict[str, str]:
        """Return the variables of a web app: listen on loopback, because there is no container around it here."""
        mark = {MARK: os.environ[MARK]} if MARK in os.environ else {}
        return {"MLOPS_HOST": "127.0.0.1", **mark}

    def client_variables(self, vault: str) -> dict[str, str]:
        """Return the variables that the tool needs in addition to those of every client: the name of its key vault."""
        return {"MLOPS_AZURE_KEY_VAULT": vault}

    def default_variables(self, scope: str) -> dict[str, str]:
        """Return the variables that the tool gets unless they are set: the registry of models, images (any name works), the
        identity that pulls them, and the accounts of Custom Vision.

        Args:
            scope: Path of the resource group.
        """
        registry = "wsimages.azurecr.io"  # the registry of the workspace
        accounts = f"{scope}/providers/Microsoft.CognitiveServices/accounts"
        return {
            "MLOPS_REGISTRY": "azure",
            "MLOPS_AZURE_CONTAINER_REGISTRY": registry,
            "MLOPS_AZURE_INFERENCING_IMAGE": f"{registry}/mlops-inferencing:1",
            "MLOPS_AZURE_PULL_IDENTITY": f"{scope}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/id-pull",
            "MLOPS_CUSTOM_VISION_TRAINING_ENDPOINT": f"https://{VISION_TRAINING}.cognitiveservices.azure.com/",
            "MLOPS_CUSTOM_VISION_PREDICTION_ENDPOINT": f"https://{VISION_PREDICTION}.cognitiveservices.azure.com/",
            "MLOPS_CUSTOM_VISION_PREDICTION_ID": f"{accounts}/{VISION_PREDICTION}",
            "MLOPS_CUSTOM_VISION_SKU": "S0",
            # Empty, so that keys of real accounts in a settings file are not sent to these accounts, which do not know them.
            "MLOPS_CUSTOM_VISION_TRAINING_KEY": "",
            "MLOPS_CUSTOM_VISION_PREDICTION_KEY": "",
        }

    def step_variables(self, signed_in: Mapping[str, str]) -> dict[str, str]:
        """Return the variables of a step of a job, besides those of its sign-in: models are registered in the workspace."""
        return {**signed_in, "MLOPS_REGISTRY": "azure"}

    def deployment_line(self, port_file: Path) -> list[str]:
        """Return the command of a deployment's container; its variables say the rest."""
        return [*self.serve, "--port-file", str(port_file)]

    def deployment_variables(self, model: Path, given: Mapping[str, str]) -> dict[str, str]:
        """Return the variables of its process: one worker unless ``given`` overrides it, a free port on loopback."""
        own = {"AZUREML_MODEL_DIR": str(model), "MLOPS_SERVING__WORKERS": "1"}
        return {**own, **given, "MLOPS_HOST": "127.0.0.1", "MLOPS_PORT": "0"}

    def settled(self, written: str, refused: bool) -> bool:
        """Return whether a server has decided whether it is ready, so that further probes change nothing.

        Args:
            written: Its output: ``serving ADDRESS`` once it listens, ``not ready: REASON`` when it gives up.
            refused: Whether nobody listened at its address.
        """
        return "not ready: " in written or (refused and "serving " in written)

    def told_port(self, given: Mapping[str, str]) -> int:
        """Return the port on which a deployment's variables tell the server to listen; its image listens on 8000."""
        return int(given.get("MLOPS_PORT", 8000))


def machine_environment() -> dict[str, str]:
    """Return the variables of the processes that do the cloud's work: this process's, without those of any cloud."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}
    folders = [str(Path(sys.executable).parent), kept.get("PATH", "")]
    # In the folder of a job, relative folders would be different ones.
    sources = [str(Path(item).resolve()) for item in kept.get("PYTHONPATH", "").split(os.pathsep) if item]
    return {**kept, "PATH": os.pathsep.join(folders), "PYTHONPATH": os.pathsep.join(sources)}
