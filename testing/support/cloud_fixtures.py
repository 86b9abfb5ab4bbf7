"""Fixtures for tests that drive the real Azure SDK against the emulator, for the conftest of every folder that has some."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from testing.support.blob_containers import Container, make_container
from testing.support.proxy import Proxy, proxied
from testing.support.redirection import redirected
from testing.support.rehearsal import Rehearsal
from testing.support.submissions import write_project

from azureml_emulator.emulated_cloud import EmulatedCloud
from azureml_emulator.loopback import environment, loopback_client, start_cloud
from azureml_emulator.storage.azurite import Azurite

if TYPE_CHECKING:
    from azure.ai.ml import MLClient


@pytest.fixture(scope="session")
def azurite() -> Iterator[Azurite]:
    """The running blob service."""
    with Azurite() as running:
        yield running


@pytest.fixture
def container(azurite: Azurite) -> Iterator[Container]:
    """An empty container of Azurite."""
    made = make_container(azurite.account_url)
    yield made
    made.client.delete_container()


@pytest.fixture
def proxy(azurite: Azurite) -> Iterator[Proxy]:
    """A proxy before Azurite that makes trouble on demand."""
    with proxied(azurite) as running:
        yield running


@pytest.fixture(scope="session")
def running_cloud(azurite: Azurite, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[EmulatedCloud, Path]]:
    """The cloud, and the certificate that clients must trust."""
    with start_cloud(azurite, tmp_path_factory.mktemp("cloud")) as running:
        yield running


@pytest.fixture
def cloud(running_cloud: tuple[EmulatedCloud, Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[EmulatedCloud]:
    """The cloud with an empty workspace; the environment and the SDK point to it."""
    cloud, certificate = running_cloud
    cloud.reset()
    for name, value in environment(cloud, certificate).items():
        monkeypatch.setenv(name, value)
    # The SDK sets this one itself. Setting it first makes pytest take it away again at the end.
    monkeypatch.setenv("AZUREML_CURRENT_CLOUD", "")
    monkeypatch.delenv("AZUREML_CURRENT_CLOUD")
    with redirected(cloud):
        yield cloud
    cloud.stop()
    end_pollers(cloud)


def end_pollers(cloud: EmulatedCloud) -> None:
    """End the SDK's threads that still watch a change: their requests would be seen, and met by faults, in the next test.

    A command gives a change up where it fails or is interrupted. Where its operation is not known any more, so do they.
    """
    cloud.faults.clear()
    cloud.operations.clear()
    for thread in threading.enumerate():
        if thread.name.startswith("LROPoller"):
            thread.join(60)


@pytest.fixture
def client(cloud: EmulatedCloud) -> MLClient:
    """A real client of the workspace."""
    return loopback_client(cloud)


@pytest.fixture
def project(client: MLClient, tmp_path: Path) -> Path:
    """Definitions with what they need; the environment that they name is in the workspace."""
    from azure.ai.ml.entities import Environment

    client.environments.create_or_update(Environment(name="train", version="3", image="python:3.11"))
    return write_project(tmp_path / "project")


@pytest.fixture
def rehearsal(cloud: EmulatedCloud) -> Rehearsal:
    """Takes the jobs, so that none is really run."""
    cloud.executor = found = Rehearsal()
    return found
