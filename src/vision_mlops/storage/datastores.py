"""The container behind a datastore of Azure Machine Learning, with the signature or key that the workspace keeps for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vision_mlops.azure.azure_errors import azure_errors
from vision_mlops.azure.clients import default_credential, ml_client, quiet
from vision_mlops.azure.code_uploads import opened_by_identity
from vision_mlops.config.azure_settings import AzureSettings
from vision_mlops.core.errors import AzureError
from vision_mlops.storage.addresses import DatastoreAddress
from vision_mlops.storage.blob_folder import BlobFolder
from vision_mlops.storage.sign_in import AccountKey, EntraIdentity, SharedAccessSignature, SignIn

if TYPE_CHECKING:
    from azure.ai.ml import MLClient

_CONTAINER_OF = {"AzureBlob": "container_name", "AzureDataLakeGen2": "filesystem"}
"""Kinds of datastores that are containers of Blob Storage, and the attribute that names it."""


def resolve(address: DatastoreAddress, settings: AzureSettings, client: MLClient | None = None) -> BlobFolder:
    """Ask the workspace where a datastore is.

    Args:
        address: The datastore. A workspace that it names wins over that of the settings.
        settings: Workspace and cloud.
        client: Client of the workspace to use instead of a new one.

    Raises:
        AzureError: the datastore does not exist, is not in Blob Storage, or the workspace cannot be reached.
    """
    changes = {
        "workspace_name": address.workspace,
        "resource_group": address.group,
        "subscription_id": address.subscription,
    }
    settings = settings.model_copy(update={name: value for name, value in changes.items() if value})
    client = client if client is not None and not address.workspace else ml_client(settings)
    fix = "check the name: Azure ML studio lists datastores under Data; every workspace has workspaceblobstore"
    with azure_errors(f"datastore {address.name!r}", fix), quiet():
        from azure.ai.ml.constants._common import STORAGE_ACCOUNT_URLS

        found: Any = client.datastores.get(address.name)
        kind = str(getattr(found.type, "value", found.type) or "")
        container = str(getattr(found, _CONTAINER_OF[kind]) or "") if kind in _CONTAINER_OF else ""
        if not container:
            raise AzureError(
                f"datastore {address.name!r} is of type {kind}", "name one of type AzureBlob or AzureDataLakeGen2"
            )
        # The SDK builds the addresses of its own uploads like this, also for Data Lake accounts, which have both.
        account_url = STORAGE_ACCOUNT_URLS["AzureBlob"].format(found.account_name, found.endpoint or "core.windows.net")
        sign_in = _sign_in(client, found, container, settings, account_url)
    return BlobFolder(account_url, container, address.path, sign_in, address.name)


def _sign_in(client: Any, found: Any, container: str, settings: AzureSettings, account_url: str) -> SignIn:
    """Return the datastore's own signature or key; if it has none, or we may not see it, our own identity."""
    from azure.core.exceptions import HttpResponseError

    source = f"datastore {found.name!r}"
    if not opened_by_identity(found):
        try:
            secrets = client.datastores._list_secrets(name=found.name, expirable_secret=True)
        except HttpResponseError as error:
            if error.status_code not in (401, 403):
                raise
            secrets = None
        token, key = getattr(secrets, "sas_token", None), getattr(secrets, "key", None)
        if token:
            return SharedAccessSignature(str(token), source)
        if key:
            return AccountKey(str(found.account_name), container, str(key), source)
    if account_url.startswith("http://"):
        raise AzureError(f"{source} has no secret that you may read, and {account_url} is not encrypted", "use https")
    return EntraIdentity(default_credential(settings))
