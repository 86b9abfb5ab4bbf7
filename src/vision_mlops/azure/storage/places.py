"""A folder in Blob Storage with the way to sign in to it, found from an address."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote

from vision_mlops.azure.storage.addresses import (
    CLOUD_SUFFIXES,
    ContainerAddress,
    DatastoreAddress,
    parse_address,
)
from vision_mlops.azure.storage.signins import Identity, SignIn, from_environment
from vision_mlops.config.azure import KNOWN_CLOUDS, AzureSettings, load_azure_settings
from vision_mlops.exceptions import ConfigError

if TYPE_CHECKING:
    from azure.ai.ml import MLClient


@dataclass(frozen=True)
class Place:
    """A folder in a container.

    Attributes:
        account_url: Address of the storage account.
        container: Name of the container.
        path: Folder in it, without slashes at its ends; empty for the container itself.
        sign_in: How requests are authorised; shows nothing of what it holds.
        datastore: Name of the datastore that it was found through, or empty.
    """

    account_url: str
    container: str
    path: str
    sign_in: SignIn
    datastore: str = ""

    @property
    def url(self) -> str:
        """Address of the folder, without a signature."""
        return "/".join(part for part in (self.account_url, self.container, quote(self.path)) if part)

    @property
    def prefix(self) -> str:
        """What the names of all blobs in the folder begin with."""
        return f"{self.path}/" if self.path else ""


def locate(
    text: str,
    settings: AzureSettings | None = None,
    *,
    client: MLClient | None = None,
    environ: Mapping[str, str] | None = None,
) -> Place:
    """Find a folder in storage; of a datastore, ask the workspace where it is.

    Signing in to a container: AZURE_STORAGE_CONNECTION_STRING, else AZURE_STORAGE_SAS_TOKEN, else
    ``DefaultAzureCredential``. To a datastore: with the signature or key that the workspace keeps for it, else likewise.

    Args:
        text: ``https://ACCOUNT.blob.core.windows.net/CONTAINER/PATH``, ``azureml://datastores/NAME/paths/PATH``, also with
            ``subscriptions/.../workspaces/...`` before ``datastores``, or ``datastore:NAME/PATH``.
        settings: The workspace of a datastore, and the cloud; read from the environment when they are needed and not given.
        client: Client of the workspace to use instead of a new one.
        environ: The environment; that of the process where not given.

    Raises:
        ConfigError: the address, a variable or a setting is malformed or missing.
        AzureError: the workspace is not reached, or has no such datastore.
    """
    environ = os.environ if environ is None else environ
    suffix = settings.storage_suffix if settings else environ.get("AZURE_STORAGE_SUFFIX", "").strip()
    address = parse_address(text, [suffix] if suffix else [])
    if isinstance(address, DatastoreAddress):
        from vision_mlops.azure.storage.datastores import resolve

        return resolve(address, settings or load_azure_settings(environ=environ), client)
    sign_in = from_environment(address, environ)
    if sign_in is None:
        sign_in = _identity(address, settings, environ)
    return Place(address.account_url, address.container, address.path, sign_in)


def _identity(address: ContainerAddress, settings: AzureSettings | None, environ: Mapping[str, str]) -> SignIn:
    if address.account_url.startswith("http://"):
        raise ConfigError(
            f"{address.account_url} is not encrypted: a token of yours would be readable there",
            "export AZURE_STORAGE_SAS_TOKEN or AZURE_STORAGE_CONNECTION_STRING for it",
        )
    from vision_mlops.azure.client import credential_at

    if settings:
        authority = settings.cloud.authority_host
    else:
        named = environ.get("AZURE_CLOUD", "").strip()
        ending = next((name for name in CLOUD_SUFFIXES if address.account_url.endswith(f".blob.{name}")), "")
        cloud = named if named in KNOWN_CLOUDS else CLOUD_SUFFIXES.get(ending, "AzureCloud")
        authority = environ.get("AZURE_AUTHORITY_HOST", "").strip() or KNOWN_CLOUDS[cloud][0]
    return Identity(credential_at(authority))
