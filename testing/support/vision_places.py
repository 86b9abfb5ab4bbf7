"""Accounts of Custom Vision to test with: on the emulator, or with MLOPS_LIVE_AZURE=1 those that the environment names."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from testing.support.emulator_process import EmulatorProcess, emulator
from testing.support.places import LIVE, MACHINE

from vision_mlops.benchmark.contestant import Task
from vision_mlops.benchmark.custom_vision.call_limiter import limiter_of
from vision_mlops.benchmark.custom_vision.custom_vision_contestant import CustomVision
from vision_mlops.benchmark.custom_vision.service_account import accounts_of
from vision_mlops.benchmark.custom_vision.sku_limits import LIMITS
from vision_mlops.benchmark.custom_vision.vision_client import VisionClient
from vision_mlops.config.custom_vision_settings import PREFIX, CustomVisionSettings
from vision_mlops.config.workload import Workload
from vision_mlops.config.workload_files import load_workload
from vision_mlops.data.manifest import Manifest

# Read here, before each test takes the machine's variables away.
GIVEN = {name: value for name, value in os.environ.items() if name.startswith(PREFIX)}
_KINDS = {"train": "CustomVision.Training", "predict": "CustomVision.Prediction"}


@dataclass(frozen=True)
class VisionPlace:
    """Two accounts; real ones have no ``emulator``.

    Attributes:
        environment: What leads a client to them, and signs it in.
    """

    environment: Mapping[str, str]
    emulator: EmulatorProcess | None = None

    @property
    def loopback(self) -> EmulatorProcess:
        """The emulator; the test is skipped where the accounts are real."""
        if self.emulator is None:
            pytest.skip("only the emulator can be looked into and broken")
        return self.emulator

    def enter(self, patch: pytest.MonkeyPatch, **changes: str) -> None:
        """Lead this process to the accounts; changes are of the settings, by what follows their prefix."""
        for name, value in self.environment.items():
            patch.setenv(name, value)
        for name, value in changes.items():
            patch.setenv(f"{PREFIX}{name}", value)

    def keys(self) -> dict[str, str]:
        """The keys of the two accounts, as settings."""
        found = {}
        for word, noun in (("train", "TRAINING"), ("predict", "PREDICTION")):
            answer = self.loopback.call("POST", f"{account_path(self.loopback, f'cv-{word}')}/listKeys")
            found[f"{noun}_KEY"] = str(answer.json()["key1"])
        return found


def account_path(running: EmulatorProcess, name: str) -> str:
    """Where the resource manager has an account."""
    group = "/subscriptions/{AZURE_SUBSCRIPTION_ID}/resourceGroups/{AZURE_RESOURCE_GROUP}"
    return f"{group.format(**running.variables)}/providers/Microsoft.CognitiveServices/accounts/{name}"


def make_accounts(running: EmulatorProcess, sku: str, name: str = "cv", **properties: Any) -> dict[str, str]:
    """Make the accounts NAME-train and NAME-predict; returns the settings that name them."""
    for word, kind in _KINDS.items():
        body = {
            "kind": kind,
            "sku": {"name": sku},
            "location": "westeurope",
            "properties": {"customSubDomainName": f"{name}-{word}", **properties},
        }
        path = account_path(running, f"{name}-{word}")
        made = running.call("PUT", path, body)
        assert made.status_code in (200, 201), made.text
        deadline = time.monotonic() + 30
        while running.call("GET", path).json()["properties"]["provisioningState"] != "Succeeded":
            assert time.monotonic() < deadline
            time.sleep(0.05)
    return {
        f"{PREFIX}TRAINING_ENDPOINT": f"https://{name}-train.cognitiveservices.azure.com/",
        f"{PREFIX}PREDICTION_ENDPOINT": f"https://{name}-predict.cognitiveservices.azure.com/",
        f"{PREFIX}PREDICTION_ID": account_path(running, f"{name}-predict"),
        f"{PREFIX}SKU": sku,
    }


@contextmanager
def vision_place(folder: Path, sku: str = "S0", *options: str) -> Iterator[VisionPlace]:
    """Accounts of a SKU, with the options of the emulator; or real ones."""
    if LIVE:
        yield VisionPlace({**MACHINE, **GIVEN})
        return
    with emulator(folder, *options) as running:
        yield VisionPlace({**running.environment, **make_accounts(running, sku)}, running)


@dataclass
class Attempt:
    """A contestant with what it said, for a task in a folder."""

    folder: Path
    data: Path
    manifest: Manifest
    said: list[str] = field(default_factory=list)

    def contestant(self, *, again: bool = False) -> CustomVision:
        """A new one, as a new process has it."""
        workload: Workload = load_workload("textile")
        return CustomVision(Task(workload, self.data, self.manifest, self.folder, self.said.append, again))

    @property
    def words(self) -> str:
        """All that it said."""
        return "\n".join(self.said)


def training_client(say: Sequence[str] = ()) -> VisionClient:
    """A client of the account that the environment names."""
    settings = CustomVisionSettings.load()
    account = accounts_of(settings)[0]
    return VisionClient(account, limiter_of(account.endpoint, LIMITS[settings.sku].per_second), list(say).append)


def only_project(client: VisionClient) -> dict[str, Any]:
    """The one project that there is, with its iterations and number of images."""
    (project,) = client.call("GET", "projects")
    path = f"projects/{project['id']}"
    return {
        **project,
        "iterations": client.call("GET", f"{path}/iterations"),
        "images": client.call("GET", f"{path}/images/tagged/count"),
    }
