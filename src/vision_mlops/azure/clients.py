"""The one place where credentials and clients of Azure are created: they print nothing and send no telemetry.

The sign-in is that of the pipeline if its variables are set, else ``DefaultAzureCredential``: environment variables,
workload identity, managed identity, ``az login``; ``AZURE_TOKEN_CREDENTIALS`` selects one. The settings name the cloud
(AZURE_CLOUD and related variables), so the same code reaches a private cloud, or a service on this machine with the same
protocol.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from vision_mlops.azure.azure_errors import SIGN_IN, azure_errors
from vision_mlops.azure.code_uploads import let_code_follow_data
from vision_mlops.azure.pipeline_sign_in import CHOICE, SIGN_INS, pipeline_credential
from vision_mlops.config.azure_settings import KNOWN_CLOUDS, AzureSettings
from vision_mlops.core.errors import AzureError, ConfigError
from vision_mlops.core.text import nearest

if TYPE_CHECKING:
    from azure.ai.ml import MLClient
    from azure.core import PipelineClient
    from azure.core.credentials import TokenCredential
    from azure.core.rest import HttpRequest, HttpResponse
    from azure.keyvault.secrets import SecretClient
    from azure.mgmt.containerinstance import ContainerInstanceManagementClient
    from azure.mgmt.web import WebSiteManagementClient

ClientT = TypeVar("ClientT")

_ML_RESOURCES = {
    "AzureCloud": "https://ml.azure.com",
    "AzureUSGovernment": "https://ml.azure.us",
    "AzureChinaCloud": "https://ml.azure.cn",
}
"""Audience of tokens for Azure ML, by cloud."""
_COGNITIVE_RESOURCES = {
    "AzureCloud": "https://cognitiveservices.azure.com",
    "AzureUSGovernment": "https://cognitiveservices.azure.us",
    "AzureChinaCloud": "https://cognitiveservices.azure.cn",
}
"""The same for cognitive services."""
_LOGGERS = ("azure", "azure.ai.ml", "azure.ai.ml._utils._experimental", "azure.identity", "msal", "msrest")


def ml_client(settings: AzureSettings, credential: TokenCredential | None = None) -> MLClient:
    """Create a client of the workspace. Nothing is sent before it is used; :func:`check_workspace` sends a first call.

    Args:
        settings: Subscription, workspace and cloud.
        credential: Sign-in; ``DefaultAzureCredential`` if not given.

    Raises:
        MissingExtraError: the Azure packages are not installed.
        AzureError: the client cannot be set up.
    """
    client = _client(settings, credential, workspace_name=settings.workspace_name)
    let_code_follow_data(client)
    return client


def registry_client(settings: AzureSettings, *, name: str | None = None) -> MLClient:
    """Create a client of an Azure ML registry; this looks up the address of the registry at once.

    Args:
        settings: Cloud, and AZUREML_REGISTRY_NAME if ``name`` is not given.
        name: Name of the registry.

    Raises:
        ConfigError: no registry is named.
        AzureError: the registry does not exist, or cannot be reached.
        MissingExtraError: the Azure packages are not installed.
    """
    registry = name or settings.registry_name
    if not registry:
        raise ConfigError("AZUREML_REGISTRY_NAME is not set", "export AZUREML_REGISTRY_NAME=mlr-vision")
    return _client(settings, None, registry_name=registry)


def containers_client(settings: AzureSettings) -> ContainerInstanceManagementClient:
    """Create a client of Azure Container Instances. Nothing is sent before it is used.

    Raises:
        MissingExtraError: the Azure packages are not installed.
    """
    with azure_errors("Azure Container Instances"):
        from azure.mgmt.containerinstance import ContainerInstanceManagementClient

        return _manager_client(ContainerInstanceManagementClient, settings)


def web_client(settings: AzureSettings) -> WebSiteManagementClient:
    """Create a client of Azure App Service. Nothing is sent before it is used.

    Raises:
        MissingExtraError: the Azure packages are not installed.
    """
    with azure_errors("Azure App Service"):
        from azure.mgmt.web import WebSiteManagementClient

        return _manager_client(WebSiteManagementClient, settings)


def _manager_client(kind: Callable[..., ClientT], settings: AzureSettings) -> ClientT:
    """Create a client of one service behind the resource manager of the cloud."""
    manager = settings.cloud.resource_manager
    return kind(
        default_credential(settings),
        settings.subscription_id,
        base_url=manager,
        credential_scopes=[f"{manager}/.default"],
        polling_interval=5,
    )


def publishing_client(settings: AzureSettings, host: str) -> PipelineClient[HttpRequest, HttpResponse]:
    """Create a client of the publishing site of a web app, which accepts tokens for the resource manager.

    Args:
        settings: Cloud.
        host: Host of the site, such as ``NAME.scm.azurewebsites.net``.

    Raises:
        MissingExtraError: the Azure packages are not installed.
    """
    return _plain_client(f"https://{host}", settings)


def manager_calls(
    settings: AzureSettings, credential: TokenCredential | None = None
) -> PipelineClient[HttpRequest, HttpResponse]:
    """Create a client of the resource manager for calls that no installed package of Azure makes; it takes whole addresses.

    Raises:
        MissingExtraError: the Azure packages are not installed.
    """
    return _plain_client(settings.cloud.resource_manager, settings, credential)


def _plain_client(
    url: str, settings: AzureSettings, credential: TokenCredential | None = None
) -> PipelineClient[HttpRequest, HttpResponse]:
    """Create a client for any request, with a token for the resource manager."""
    _prepare()
    with azure_errors("Azure"):
        from azure.core import PipelineClient
        from azure.core.pipeline.policies import BearerTokenCredentialPolicy, RetryPolicy

        scope = f"{settings.cloud.resource_manager}/.default"
        policies = [RetryPolicy(), BearerTokenCredentialPolicy(credential or default_credential(settings), scope)]
        return PipelineClient(url, policies=policies)


def vault_client(settings: AzureSettings, credential: TokenCredential | None = None) -> SecretClient:
    """Create a client of the secrets of the key vault. Nothing is sent before it is used.

    Raises:
        ConfigError: MLOPS_AZURE_KEY_VAULT is not set.
        MissingExtraError: the Azure packages are not installed.
    """
    _prepare()
    url = settings.key_vault_url
    with azure_errors("Azure Key Vault"):
        from azure.keyvault.secrets import SecretClient

        return SecretClient(url, credential or default_credential(settings))


def check_workspace(client: MLClient, settings: AzureSettings) -> Any:
    """Return the workspace entity.

    Raises:
        AzureError: nobody is signed in, access is denied, or the subscription, resource group or workspace does not exist.
    """
    hint = "check AZURE_SUBSCRIPTION_ID, AZURE_RESOURCE_GROUP and AZUREML_WORKSPACE_NAME"
    with azure_errors(f"workspace {settings.workspace_name!r}", hint):
        return client.workspaces.get(settings.workspace_name)


def default_credential(settings: AzureSettings) -> TokenCredential:
    """Return the sign-in of this machine for the cloud of the settings; see :func:`credential_at`."""
    return credential_at(settings.cloud.authority_host)


def credential_at(authority_host: str) -> TokenCredential:
    """Return the sign-in of this machine, which is only tried when a token is needed.

    ``AZURE_TOKEN_CREDENTIALS`` names the one to use. Without it, a job on Azure ML uses the identity of its user if the
    definition asks for that (``user_identity``), else the managed identity of the cluster; an Azure DevOps pipeline uses its
    service connection, and a workflow on GitHub its federated identity. None of these could be tested without an Azure
    account.

    Args:
        authority_host: Where to sign in, such as ``https://login.microsoftonline.com``.

    Raises:
        MissingExtraError: the Azure packages are not installed.
        AzureError: the variables of a sign-in have invalid values.
    """
    _prepare()
    with azure_errors("sign-in"):
        from azure.identity import DefaultAzureCredential

        if os.environ.get("OBO_ENDPOINT") and not os.environ.get(CHOICE, "").strip():
            from azure.ai.ml.identity import AzureMLOnBehalfOfCredential

            return AzureMLOnBehalfOfCredential()
        # Microsoft's list of sign-in servers does not include those of another cloud.
        known = authority_host.rstrip("/") in (authority for authority, _ in KNOWN_CLOUDS.values())
        options: dict[str, Any] = {"authority": authority_host, "disable_instance_discovery": not known}
        try:
            if (found := pipeline_credential(**options)) is not None:
                return found
            if identity := os.environ.get("DEFAULT_IDENTITY_CLIENT_ID"):
                options["managed_identity_client_id"] = identity
            return DefaultAzureCredential(**options)
        except ValueError as error:  # for example an empty secret
            choice = os.environ.get(CHOICE, "").strip()
            if choice and choice.lower() not in map(str.lower, SIGN_INS):
                raise AzureError(f"sign-in: unknown {CHOICE}={choice}", nearest(choice, SIGN_INS)) from error
            raise AzureError(f"sign-in: {error}", SIGN_IN) from error


def authority_of(environ: Mapping[str, str], cloud: str = "AzureCloud") -> str:
    """Return where to sign in, by AZURE_CLOUD and AZURE_AUTHORITY_HOST alone, for calls that need no workspace.

    Args:
        environ: The environment.
        cloud: The cloud if AZURE_CLOUD does not name a known one.
    """
    named = environ.get("AZURE_CLOUD", "").strip()
    return environ.get("AZURE_AUTHORITY_HOST", "").strip() or KNOWN_CLOUDS.get(named, KNOWN_CLOUDS[cloud])[0]


def scoring_token_provider(environ: Mapping[str, str]) -> Callable[[], str]:
    """Return what provides tokens for managed online endpoints; it keeps a token, and renews it before it expires.

    Args:
        environ: Variables: AZURE_CLOUD, AZURE_AUTHORITY_HOST and AZUREML_RESOURCE_ID name the cloud, if it is not the
            public one.

    Returns:
        A function for any number of threads. It raises AzureError if nobody is signed in.

    Raises:
        MissingExtraError: the Azure packages are not installed.
        AzureError: the variables of a sign-in have invalid values.
    """
    resource = environ.get("AZUREML_RESOURCE_ID", "").strip() or _of_cloud(_ML_RESOURCES, environ)
    return _token_provider(resource, "sign-in to the endpoint", environ)


def cognitive_token_provider(environ: Mapping[str, str]) -> Callable[[], str]:
    """Do as :func:`scoring_token_provider` does, for Azure's cognitive services, such as Custom Vision."""
    return _token_provider(_of_cloud(_COGNITIVE_RESOURCES, environ), "sign-in to Custom Vision", environ)


def _of_cloud(resources: Mapping[str, str], environ: Mapping[str, str]) -> str:
    """Return the audience of the cloud in AZURE_CLOUD; that of the public cloud if it is unknown."""
    return resources.get(environ.get("AZURE_CLOUD", "").strip(), resources["AzureCloud"])


def _token_provider(resource: str, action: str, environ: Mapping[str, str]) -> Callable[[], str]:
    credential, lock = credential_at(authority_of(environ)), threading.Lock()
    from azure.identity import get_bearer_token_provider

    token = get_bearer_token_provider(credential, f"{resource.rstrip('/')}/.default")

    def locked() -> str:
        with lock, azure_errors(action):
            return token()

    return locked


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Suppress what the SDK prints, such as blank lines after an upload, unless this package logs its debug messages."""
    if _verbose():
        yield
        return
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


def _client(settings: AzureSettings, credential: TokenCredential | None, **scope: str) -> MLClient:
    _prepare()
    with azure_errors("Azure ML"), quiet():
        from azure.ai.ml import MLClient

        if not _verbose():  # the import has set the level of this one
            logging.getLogger("azure.ai.ml").setLevel(logging.CRITICAL)
        cloud = settings.cloud
        options: dict[str, Any] = {"cloud": cloud.name}
        if cloud.addresses:
            # The SDK keeps the first addresses for a name, so other addresses get another name.
            digest = hashlib.sha256(repr(sorted(cloud.addresses.items())).encode()).hexdigest()[:8]
            options = {"cloud": f"{cloud.name}-{digest}", "cloud_metadata": dict(cloud.addresses)}
        return MLClient(
            credential or default_credential(settings),
            settings.subscription_id,
            settings.resource_group,
            show_progress=False,
            enable_telemetry=False,
            **scope,
            **options,
        )


def _prepare() -> None:
    """Set what the Azure packages read when they are imported and used."""
    # The SDK caches registered components in a folder of the user for a week; a run must not write outside its home.
    os.environ.setdefault("AZURE_ML_DISABLE_ON_DISK_CACHE", "true")
    level = logging.INFO if _verbose() else logging.CRITICAL
    for name in _LOGGERS:
        logging.getLogger(name).setLevel(level)


def _verbose() -> bool:
    """Return whether the log of the Azure packages is wanted: if that of this package is, as with ``mlops --verbose``."""
    return logging.getLogger("vision_mlops").isEnabledFor(logging.DEBUG)
