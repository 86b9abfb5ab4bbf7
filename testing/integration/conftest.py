"""Fixtures for tests that drive the real Azure SDK against the loopback cloud."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from testing.fakes.azurite import Azurite
from testing.fakes.client import environment, loopback_client, redirected, start_cloud
from testing.fakes.cloud import Cloud
from testing.fakes.faults import Faults
from testing.fakes.identity import by_secret
from testing.fakes.proxy import Proxy, proxied
from testing.fakes.rehearsal import Rehearsal
from testing.support.blob_containers import Container, make_container
from testing.support.places import LIVE, MACHINE, Place
from testing.support.submissions import write_project

from vision_mlops.azure.clients import ml_client
from vision_mlops.cli.main import main
from vision_mlops.config.azure_settings import load_azure_settings

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
def running_cloud(azurite: Azurite, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Cloud, Path]]:
    """The cloud, and the certificate that clients must trust."""
    with start_cloud(azurite, tmp_path_factory.mktemp("cloud")) as running:
        yield running


@pytest.fixture
def cloud(running_cloud: tuple[Cloud, Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
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


@pytest.fixture
def client(cloud: Cloud) -> MLClient:
    """A real client of the workspace."""
    return loopback_client(cloud)


@pytest.fixture
def place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Place:
    """The loopback cloud, whose jobs only pretend to run; with MLOPS_LIVE_AZURE=1 the workspace that AZURE_* name."""
    cloud: Cloud | None = None
    if LIVE:
        for name, value in MACHINE.items():
            monkeypatch.setenv(name, value)
    else:
        cloud = request.getfixturevalue("cloud")
        cloud.executor = Rehearsal()
        for name, value in {**by_secret(), "AZURE_TOKEN_CREDENTIALS": "EnvironmentCredential"}.items():
            monkeypatch.setenv(name, value)
    settings = load_azure_settings()
    return Place(settings, ml_client(settings), cloud)


@pytest.fixture
def faults(place: Place) -> Faults:
    """Faults of the loopback cloud; a real workspace has none on demand."""
    return place.loopback.faults


@pytest.fixture
def project(client: MLClient, tmp_path: Path) -> Path:
    """Definitions with what they need; the environment that they name is in the workspace."""
    from azure.ai.ml.entities import Environment

    client.environments.create_or_update(Environment(name="train", version="3", image="python:3.11"))
    return write_project(tmp_path / "project")


@pytest.fixture
def rehearsal(cloud: Cloud) -> Rehearsal:
    """Takes the jobs, so that none is really run."""
    cloud.executor = found = Rehearsal()
    return found


@pytest.fixture
def mlops(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run ``mlops`` in this process: exit code, standard output, standard error."""

    def call(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["mlops", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        return int(ended.value.code or 0), printed.out, printed.err

    return call


@pytest.fixture
def run(place: Place, mlops: Callable[..., tuple[int, str, str]]) -> Callable[..., tuple[int, str, str]]:
    """The same where the SDK is redirected."""
    return mlops
