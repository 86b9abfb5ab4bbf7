"""Where tests of the Azure parts run: on the loopback cloud, or with MLOPS_LIVE_AZURE=1 in a real workspace."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from azureml_emulator.emulated_cloud import EmulatedCloud
from vision_mlops.config.azure_settings import AzureSettings

if TYPE_CHECKING:
    from azure.ai.ml import MLClient

LIVE = os.environ.get("MLOPS_LIVE_AZURE") == "1"
# Read here, before each test takes the machine's variables away.
MACHINE = {name: value for name, value in os.environ.items() if name.startswith(("AZURE_", "AZUREML_"))}
# The name of an endpoint is unique in an Azure region. What live tests make they leave there.
ENDPOINT = (
    f"count-{hashlib.sha256(MACHINE.get('AZUREML_WORKSPACE_NAME', '').encode()).hexdigest()[:8]}"
    if LIVE
    else "count-files"
)


@dataclass(frozen=True)
class Place:
    """A workspace to test in; a real one has no ``cloud``."""

    settings: AzureSettings
    client: MLClient
    cloud: EmulatedCloud | None

    @property
    def loopback(self) -> EmulatedCloud:
        """The loopback cloud; the test is skipped where this is a real workspace."""
        if self.cloud is None:
            pytest.skip("only the loopback cloud can be looked into and broken")
        return self.cloud

    def count(self, part: str, method: str = "") -> int:
        """How many requests the loopback cloud has seen whose path contains a text."""
        return len(self.loopback.seen(part, method))
