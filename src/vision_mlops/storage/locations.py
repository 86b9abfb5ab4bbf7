"""A folder in Blob Storage with the way to sign in to it, found from an address."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from vision_mlops.config.azure_settings import AzureSettings
from vision_mlops.core.errors import ConfigError
from vision_mlops.storage.addresses import CLOUD_SUFFIXES, DatastoreAddress, parse_address
from vision_mlops.storage.blob_folder import BlobFolder
from vision_mlops.storage.datastores import resolve
from vision_mlops.storage.sign_in import EntraIdentity, from_environment

if TYPE_CHECKING:
    from azure.ai.ml import MLClient


def locate(
    text: str,
    settings: AzureSettings | None = None,
    *,
    client: MLClient | None = None,
    environ: Mapping[str, str] | None = None,
) -> BlobFolder:
    """Find a folder in storage; of a datastore, ask the workspace where it is.

    Signing in to a container: AZURE_STORAGE_CONNECTION_STRING, else AZURE_STORAGE_SAS_TOKEN, else
    ``DefaultAzureCredential``. To a datastore: with the signature or key that the workspace keeps for it, else likewise.

    Args:
        text: ``https://ACCOUNT.blob.core.windows.net/CONTAINER/PATH``, ``azureml://datastores/NAME/paths/PATH``, also with
            ``subscriptions/.../workspaces/...`` before ``datastores``, or ``datastore:NAME/PATH``.
        settings: The workspace of a datastore, and the cloud; by default read from the environment when they are needed.
        client: Client of the workspace to use instead of a new one.
        environ: The environment; by default that of the process.

    Raises:
        ConfigError: the address, a variable or a setting is malformed or missing.
        AzureError: the workspace cannot be reached, or does not have the datastore.
    """
    environ = os.environ if environ is None else environ
    suffix = settings.storage_suffix if settings else environ.get("AZURE_STORAGE_SUFFIX", "").strip()
    address = parse_address(text, [suffix] if suffix else [])
    if isinstance(address, DatastoreAddress):
        return resolve(address, settings or AzureSettings.load(environ=environ), client)
    sign_in = from_environment(address, environ)
    if sign_in is None:
        if address.account_url.startswith("http://"):
            raise ConfigError(
                f"{address.account_url} is not encrypted: your token could be read on the way",
                "export AZURE_STORAGE_SAS_TOKEN or AZURE_STORAGE_CONNECTION_STRING for it",
            )
        from vision_mlops.azure.clients import authority_of, credential_at

        clouds = (cloud for suffix, cloud in CLOUD_SUFFIXES.items() if address.account_url.endswith(f".blob.{suffix}"))
        authority = settings.cloud.authority_host if settings else authority_of(environ, next(clouds, "AzureCloud"))
        sign_in = EntraIdentity(credential_at(authority))
    return BlobFolder(address.account_url, address.container, address.path, sign_in)
