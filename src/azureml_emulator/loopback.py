"""Start the emulated cloud on loopback, and make clients of the real SDK for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from azureml_emulator.certificates import Certificates
from azureml_emulator.emulated_cloud import EmulatedCloud
from azureml_emulator.https_server import HttpsServer, guarded
from azureml_emulator.identity.loopback_tokens import LoopbackCredential
from azureml_emulator.jobs.job_executor import JobExecutor
from azureml_emulator.process_commands import ProcessCommands
from azureml_emulator.rest.cloud_addresses import CloudAddresses
from azureml_emulator.storage.azurite import Azurite

if TYPE_CHECKING:
    from azure.ai.ml import MLClient

CLOUD_NAME = "Loopback"


@contextmanager
def start_cloud(
    azurite: Azurite,
    folder: Path,
    executor: JobExecutor | None = None,
    commands: ProcessCommands | None = None,
) -> Iterator[tuple[EmulatedCloud, Path]]:
    """Start a cloud; yield it and the certificate that clients must trust.

    Args:
        azurite: The running storage.
        folder: Folder that it may write to.
        executor: Runs the jobs; by default the command for jobs.
        commands: Commands that run jobs and serve containers; by default this project's tool.
    """
    certificates = Certificates.make(folder / "tls")
    cloud = EmulatedCloud(azurite, folder / "work", certificates, executor, commands)
    server = HttpsServer(certificates)
    cloud.addresses = CloudAddresses.loopback(server.url)
    server.start(guarded(cloud.routes(), cloud.rules))
    try:
        yield cloud, certificates.authority
    finally:
        cloud.stop()
        server.stop()


def metadata(cloud: EmulatedCloud) -> dict[str, str]:
    """Return the addresses of the services of the loopback cloud, by the names that the SDK uses."""
    address = f"{cloud.url}/"
    return {
        "azure_portal": address,
        "resource_manager": address,
        "active_directory": address,
        "aml_resource_id": f"{cloud.addresses.ml_resource}/",
        "storage_endpoint": cloud.addresses.storage_suffix,
        "registry_discovery_endpoint": address,
    }


def loopback_client(cloud: EmulatedCloud, credential: Any = None, **options: Any) -> MLClient:
    """Return a real client for the loopback cloud; needs the variables of :func:`environment`.

    Args:
        cloud: The running cloud.
        credential: Credential to use instead of a valid one.
        options: Other arguments of ``MLClient``: another ``workspace_name``, ``registry_name``, or options of its
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


def environment(cloud: EmulatedCloud, certificate: Path) -> dict[str, str]:
    """Return the variables that point the package and the SDK at the cloud."""
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
        "AZURE_STORAGE_SUFFIX": cloud.addresses.storage_suffix,
        "AZUREML_RESOURCE_ID": cloud.addresses.ml_resource,
        "AZUREML_REGISTRY_DISCOVERY": cloud.url,
        "AZUREML_REGISTRY_NAME": cloud.registry,
        # Otherwise the SDK would cache components beyond the test, in a folder that all processes of the machine share.
        "AZURE_ML_DISABLE_ON_DISK_CACHE": "true",
        # Seconds between two checks of a running job; the SDK reads it when it is imported.
        "AZUREML_RUN_POLLING_INTERVAL_MIN": "1",
    }
