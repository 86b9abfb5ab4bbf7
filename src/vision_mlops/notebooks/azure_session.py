"""Azure in a notebook: the workspace of your settings, or without any an emulator that runs as long as the notebook.

The emulator is a program of its own, `mlops azure emulate`. It runs a command that prints its variables and then
waits for the end of its input, so it ends with the kernel of the notebook, however that ends.
"""

from __future__ import annotations

import atexit
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from vision_mlops.config.variable_settings import read_setting
from vision_mlops.core import paths
from vision_mlops.core.errors import AzureError

_SUBSCRIPTION = "AZURE_SUBSCRIPTION_ID"
_KEEPER = "import json, os, sys; print(json.dumps(dict(os.environ)), flush=True); sys.stdin.read()"
_END_SECONDS = 60.0


class AzureSession:
    """A connection; it changes the environment of the notebook, and :meth:`close` changes it back.

    Args:
        state: Folder of the emulator's state.
    """

    def __init__(self, state: Path) -> None:
        self.state = state
        self._before: dict[str, str] = dict(os.environ)
        self._emulator: subprocess.Popen[str] | None = None
        if not read_setting(_SUBSCRIPTION):
            self._emulator = self._start()
            atexit.register(self.close)
        os.environ.setdefault("MLOPS_REGISTRY", "azure")

    @property
    def emulated(self) -> bool:
        """Whether an emulator on this machine takes Azure's place."""
        return self._emulator is not None

    def __str__(self) -> str:
        group, workspace = read_setting("AZURE_RESOURCE_GROUP"), read_setting("AZUREML_WORKSPACE_NAME")
        where = "the emulator on this machine" if self.emulated else "Azure"
        return f"workspace {workspace} in resource group {group}, on {where}"

    def build_image(self, image: str, context: Path) -> None:
        """Let the registry build an image from what `mlops models image --context` wrote.

        The emulator's registry builds nothing: there, an image is the folder of its model.

        Args:
            image: REGISTRY/NAME:TAG.
            context: Folder with Dockerfile and model.

        Raises:
            AzureError: the registry does not build it, or the command line of Azure is not installed.
        """
        registry, _, name = image.partition("/")
        if self.emulated:
            repository, _, tag = name.rpartition(":")
            folder = self.state / "work" / "images" / registry / repository / tag
            shutil.copytree(context / "bundle", folder, dirs_exist_ok=True)
            return
        command = ["az", "acr", "build", "--registry", registry.partition(".")[0], "--image", name, str(context)]
        try:
            subprocess.run(command, check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise AzureError(
                f"{image} could not be built: {error}", "sign in with `az login` and run the cell again"
            ) from error

    def close(self) -> None:
        """Stop the emulator and restore the environment. The state of the emulator is kept."""
        atexit.unregister(self.close)
        emulator, self._emulator = self._emulator, None
        os.environ.clear()
        os.environ.update(self._before)
        if emulator is not None:
            assert emulator.stdin is not None
            assert emulator.stdout is not None
            emulator.stdin.close()
            emulator.wait(_END_SECONDS)
            emulator.stdout.close()

    def _start(self) -> subprocess.Popen[str]:
        words = ["azure", "emulate", "--state", str(self.state), "--", sys.executable, "-c", _KEEPER]
        with tempfile.TemporaryFile("w+", encoding="utf-8") as errors:
            emulator = subprocess.Popen(
                [sys.executable, "-m", "vision_mlops", *words],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                encoding="utf-8",
                start_new_session=True,  # an interrupted cell must not interrupt it
            )
            assert emulator.stdout is not None
            answer = emulator.stdout.readline()
            if not answer:
                emulator.communicate()
                errors.seek(0)
                reason = errors.read().strip().removeprefix("error: ")
                hint = "shut down the kernel of the notebook that uses it"
                raise AzureError(f"the emulator cannot start: {reason}", hint)
        os.environ.clear()
        os.environ.update(json.loads(answer))
        return emulator


def connect_azure() -> AzureSession:
    """Connect to the workspace that the environment or ``.env`` names; without a subscription there, to an emulator.

    Raises:
        AzureError: the emulator does not start.
        MissingExtraError: there is an ``.env``, and python-dotenv is not installed.
    """
    return AzureSession(paths.home() / "emulator")
