"""Start the loopback cloud, and point the real SDK at it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.routing import BaseRoute
from testing.fakes.assets import Assets
from testing.fakes.blobs import STORAGE_SUFFIX
from testing.fakes.cloud import AML_RESOURCE, Cloud
from testing.fakes.credential import LoopbackCredential
from testing.fakes.server import Server

if TYPE_CHECKING:
    from azure.ai.ml import MLClient
    from testing.fakes.azurite import Azurite
    from testing.fakes.executor import Executor

CLOUD_NAME = "Loopback"


def routes(cloud: Cloud) -> list[BaseRoute]:
    """All that the control plane answers."""
    from testing.fakes.batch import BatchEndpoints
    from testing.fakes.history import History
    from testing.fakes.identity import SignIn
    from testing.fakes.online import OnlineEndpoints
    from testing.fakes.registries import Registries
    from testing.fakes.schedules import Schedules
    from testing.fakes.tracking import Tracking
    from testing.fakes.workspaces import Workspaces

    return [
        *SignIn(cloud).routes(),
        *cloud.operations.routes(),
        *Workspaces(cloud).routes(),
        *Assets(cloud).routes(),
        *Registries(cloud).routes(),
        *cloud.jobs.routes(),
        *History(cloud).routes(),
        *Tracking(cloud).routes(),
        *Schedules(cloud).routes(),
        *OnlineEndpoints(cloud).routes(),
        *BatchEndpoints(cloud).routes(),
        *cloud.groups.routes(),
        *cloud.vault.routes(),
    ]


@contextmanager
def start_cloud(azurite: Azurite, folder: Path, executor: Executor | None = None) -> Iterator[tuple[Cloud, Path]]:
    """A cloud that answers; yields it and the certificate that clients must trust.

    Args:
        azurite: The running storage.
        folder: Where it may write.
        executor: Runs the jobs; by default the package's local runner.
    """
    cloud = Cloud(azurite, folder / "work", executor)
    server = Server(cloud, routes(cloud), folder / "tls").start()
    try:
        yield cloud, server.certificate
    finally:
        server.stop()


def metadata(cloud: Cloud) -> dict[str, str]:
    """Where the services of the loopback cloud are, in the words of the SDK."""
    address = f"{cloud.url}/"
    return {
        "azure_portal": address,
        "resource_manager": address,
        "active_directory": address,
        "aml_resource_id": f"{AML_RESOURCE}/",
        "storage_endpoint": STORAGE_SUFFIX,
        "registry_discovery_endpoint": address,
    }


def loopback_client(cloud: Cloud, credential: Any = None, **options: Any) -> MLClient:
    """A real client for the loopback cloud; needs the environment of :func:`environment` and :func:`redirected`.

    Args:
        cloud: The running cloud.
        credential: Another one than a good one.
        options: More of ``MLClient``'s arguments: another ``workspace_name``, ``registry_name``, or options of its
            transport such as ``retry_total``.
    """
    from azure.ai.ml import MLClient

    if "registry_name" not in options:
        options.setdefault("workspace_name", cloud.workspace)
    return MLClient(
        credential or LoopbackCredential(),
        cloud.subscription,
        cloud.group,
        cloud=CLOUD_NAME,
        cloud_metadata=metadata(cloud),
        show_progress=False,
        enable_telemetry=False,
        **options,
    )


def environment(cloud: Cloud, certificate: Path) -> dict[str, str]:
    """The variables that point the package and the SDK at the cloud."""
    return {
        "REQUESTS_CA_BUNDLE": str(certificate),
        "AZURE_SUBSCRIPTION_ID": cloud.subscription,
        "AZURE_RESOURCE_GROUP": cloud.group,
        "AZUREML_WORKSPACE_NAME": cloud.workspace,
        "AZURE_TENANT_ID": cloud.tenant,
        "AZURE_CLOUD": CLOUD_NAME,
        "AZURE_AUTHORITY_HOST": cloud.url,
        "AZURE_RESOURCE_MANAGER": cloud.url,
        "AZURE_PORTAL": cloud.url,
        "AZURE_STORAGE_SUFFIX": STORAGE_SUFFIX,
        "AZUREML_RESOURCE_ID": AML_RESOURCE,
        "AZUREML_REGISTRY_DISCOVERY": cloud.url,
        "AZUREML_REGISTRY_NAME": cloud.registry,
        # The SDK would remember components beyond the test, in a folder that all of the machine's processes share.
        "AZURE_ML_DISABLE_ON_DISK_CACHE": "true",
        # Seconds between two looks at a running job; the SDK reads it when it is imported.
        "AZUREML_RUN_POLLING_INTERVAL_MIN": "1",
    }


@contextmanager
def redirected(cloud: Cloud) -> Iterator[None]:
    """Let the SDK know the loopback cloud, and send its uploads to Azurite; undone at the end.

    The SDK makes the address of a storage account from a template with https and the account as host; Azurite's has the
    account in its path.
    """
    from azure.ai.ml import _azure_environments as environments
    from azure.ai.ml.constants import _common as constants

    urls, clouds = constants.STORAGE_ACCOUNT_URLS, environments._environments
    before = urls["AzureBlob"]
    urls["AzureBlob"] = cloud.blobs.account_url
    clouds[CLOUD_NAME] = metadata(cloud)
    try:
        yield
    finally:
        urls["AzureBlob"] = before
        del clouds[CLOUD_NAME]
