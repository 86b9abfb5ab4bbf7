"""Fixtures for tests of what talks to Azure: on the emulator, or in a real workspace."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import SimpleNamespace

import pytest
from testing.support.cloud_fixtures import (
    azurite,
    client,
    cloud,
    container,
    project,
    proxy,
    rehearsal,
    running_cloud,
)
from testing.support.places import LIVE, MACHINE, Place
from testing.support.rehearsal import Rehearsal

from azureml_emulator.emulated_cloud import EmulatedCloud
from azureml_emulator.identity.sign_in_routes import by_secret
from azureml_emulator.rest.faults import Faults
from vision_mlops.azure.clients import ml_client
from vision_mlops.config.azure_settings import AzureSettings

__all__ = ["azurite", "client", "cloud", "container", "project", "proxy", "rehearsal", "running_cloud"]


@pytest.fixture
def place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Place:
    """The loopback cloud, whose jobs only pretend to run; with MLOPS_LIVE_AZURE=1 the workspace that AZURE_* name."""
    emulated: EmulatedCloud | None = None
    if LIVE:
        for name, value in MACHINE.items():
            monkeypatch.setenv(name, value)
    else:
        emulated = request.getfixturevalue("cloud")
        emulated.executor = Rehearsal()
        # A job there has ended within a second or two: what follows it looks again at once.
        often = SimpleNamespace(sleep=lambda seconds: time.sleep(min(seconds, 0.2)))
        monkeypatch.setattr("vision_mlops.jobs.azureml.job_follower.time", often)
        for name, value in {**by_secret(), "AZURE_TOKEN_CREDENTIALS": "EnvironmentCredential"}.items():
            monkeypatch.setenv(name, value)
    settings = AzureSettings.load()
    return Place(settings, ml_client(settings), emulated)


@pytest.fixture
def faults(place: Place) -> Faults:
    """Faults of the loopback cloud; a real workspace has none on demand."""
    return place.loopback.faults


@pytest.fixture
def run(place: Place, mlops: Callable[..., tuple[int, str, str]]) -> Callable[..., tuple[int, str, str]]:
    """The same where the SDK is redirected."""
    return mlops
