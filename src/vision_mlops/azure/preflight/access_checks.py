"""Check that whoever is signed in can reach the workspace, its data and the Container Registry from here."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from vision_mlops.azure.azure_errors import azure_errors
from vision_mlops.azure.clients import quiet
from vision_mlops.azure.preflight.caller import Caller
from vision_mlops.config.azure_settings import AzureSettings
from vision_mlops.core.errors import AzureError
from vision_mlops.doctor.check_results import Diagnosis, failure, ok, warning

if TYPE_CHECKING:
    from azure.ai.ml import MLClient
    from azure.core.credentials import TokenCredential
    from azure.core.rest import HttpResponse

_DATA_ROLE = "Storage Blob Data Contributor"
_SECONDS = 20


def check_workspace_access(client: MLClient, settings: AzureSettings) -> tuple[Any, Diagnosis]:
    """Return the workspace, or None, and whether it can be used from here."""
    name = settings.workspace_name
    try:
        with azure_errors(f"workspace {name!r}"), quiet():
            found = client.workspaces.get(name)
    except AzureError as error:
        if error.status == 404:
            fix = (
                "create it with `make infra-up`, or name another:"
                f" az resource list --resource-group {settings.resource_group}"
                " --resource-type Microsoft.MachineLearningServices/workspaces --output table;"
                " then: export AZUREML_WORKSPACE_NAME=NAME"
            )
            return None, failure("workspace", f"{name} is not in resource group {settings.resource_group}", fix)
        if error.status in (401, 403):
            return None, failure("workspace", error.message, error.hint)
        raise
    if str(getattr(found, "public_network_access", "") or "").lower() == "disabled":
        detail = f"{name} in {found.location} only has a private address, which its virtual network can reach"
        return found, warning(
            "workspace", detail, "run the command on a machine in that network, such as a compute instance"
        )
    return found, ok("workspace", f"{name} in {found.location}")


def check_storage(
    client: MLClient, settings: AzureSettings, credential: TokenCredential, caller: Caller, scope: str
) -> Diagnosis:
    """Check that the caller itself can list blobs of the datastore.

    If the datastore is opened by keys or signatures, the caller needs no role on the data, so a refusal is only a warning.
    """
    try:
        with azure_errors(f"datastore {settings.datastore!r}"), quiet():
            store = client.datastores.get(settings.datastore)
    except AzureError as error:
        if error.status == 404:
            return failure("storage", error.message, "export MLOPS_AZURE_DATASTORE=workspaceblobstore")
        if error.status in (401, 403):
            return warning("storage", error.message, error.hint)
        raise
    from azure.ai.ml.constants._common import STORAGE_ACCOUNT_URLS
    from azure.ai.ml.entities import NoneCredentialConfiguration

    suffix = (store.endpoint or "core.windows.net").split(".blob.")[-1]
    address = STORAGE_ACCOUNT_URLS["AzureBlob"].format(store.account_name, suffix)
    if not address.startswith("https://"):
        return ok("storage", f"{address} accepts no tokens because it is not encrypted; not checked")
    try:
        with azure_errors(f"storage account {store.account_name}"):
            from azure.storage.blob import ContainerClient

            with ContainerClient(
                address, store.container_name, credential=credential, retry_total=2, connection_timeout=_SECONDS
            ) as blobs:
                next(iter(blobs.list_blob_names(results_per_page=1)), None)
    except AzureError as error:
        if error.status not in (401, 403, 404):
            raise
        by_identity = isinstance(store.credentials, NoneCredentialConfiguration) or store.credentials is None
        return (failure if by_identity else warning)(
            "storage", error.message, _storage_fix(error, store.account_name, caller, scope)
        )
    return ok("storage", f"blobs of {store.account_name}/{store.container_name} can be listed")


def check_registry(host: str, settings: AzureSettings, credential: TokenCredential, caller: Caller) -> Diagnosis:
    """Check that the registry exchanges the caller's token for one that can pull."""
    name = host.partition(".")[0]
    fix = (
        f"az role assignment create --assignee {caller.id or caller.name} --role AcrPull"
        f" --scope $(az acr show --name {name} --query id --output tsv)"
    )
    with azure_errors("sign-in"):
        token = credential.get_token(f"{settings.cloud.resource_manager}/.default").token
    form = {"grant_type": "access_token", "service": host, "tenant": caller.tenant, "access_token": token}
    try:
        with azure_errors(f"container registry {host}"):
            response = _post(f"https://{host}/oauth2/exchange", form)
    except AzureError as error:
        look = f"az acr show --name {name} --query '{{server: loginServer, public: publicNetworkAccess}}'"
        return warning("registry", error.message, look)
    if response.status_code == 200:
        return ok("registry", f"{host} accepts the token of {caller.name}")
    if response.status_code in (401, 403):
        return failure("registry", f"{host} refuses {caller.name} (HTTP {response.status_code})", fix)
    look = f"az acr show --name {name} --output table; check MLOPS_AZURE_CONTAINER_REGISTRY"
    return warning("registry", f"{host} responds with HTTP {response.status_code}", look)


def registry_of(workspace: Any, settings: AzureSettings) -> str:
    """Return the host of the Container Registry to use: that of the settings, else that of the workspace; empty for none."""
    if settings.container_registry:
        return urlsplit(f"https://{settings.container_registry}").netloc
    found = re.search(r"/registries/([^/]+)$", str(getattr(workspace, "container_registry", None) or ""))
    return f"{found[1].lower()}.azurecr.io" if found and settings.cloud_name == "AzureCloud" else ""


def _storage_fix(error: AzureError, account: str, caller: Caller, scope: str) -> str:
    told = error.message.lower()
    if "publicaccess" in told or ("not authorized to perform this operation" in told and "permission" not in told):
        return f"az storage account network-rule add --account-name {account} --ip-address ADDRESS_OF_THIS_NETWORK"
    if error.status == 404:
        return "the container of the datastore was deleted: export MLOPS_AZURE_DATASTORE=ANOTHER_DATASTORE"
    return caller.assignment(_DATA_ROLE, scope)


def _post(url: str, form: dict[str, str]) -> HttpResponse:
    from azure.core import PipelineClient
    from azure.core.pipeline.policies import RetryPolicy
    from azure.core.rest import HttpRequest

    policies = [RetryPolicy(retry_total=2, timeout=_SECONDS)]
    client: PipelineClient[HttpRequest, HttpResponse] = PipelineClient(url, policies=policies)
    with client:
        return client.send_request(HttpRequest("POST", url, data=form), connection_timeout=_SECONDS)
