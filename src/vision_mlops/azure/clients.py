"""The one place where a credential or a client of Azure is created, silent, and sending no telemetry.

The sign-in is ``DefaultAzureCredential``: environment variables, workload identity, managed identity, ``az login``. Which
cloud is called comes from the settings (AZURE_CLOUD and what goes with it), so a private cloud, or a service on this
machine that speaks the same protocol, is reached by the same code.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from vision_mlops.azure.azure_errors import SIGN_IN, azure_errors
from vision_mlops.config.azure_settings import KNOWN_CLOUDS, AzureSettings
from vision_mlops.core.errors import AzureError, ConfigError

if TYPE_CHECKING:
    from azure.ai.ml import MLClient
    from azure.core.credentials import TokenCredential
    from azure.keyvault.secrets import SecretClient
    from azure.mgmt.containerinstance import ContainerInstanceManagementClient

_LOGGERS = ("azure", "azure.ai.ml", "azure.ai.ml._utils._experimental", "azure.identity", "msal", "msrest")


def ml_client(settings: AzureSettings, credential: TokenCredential | None = None) -> MLClient:
    """A client of the workspace. Nothing is sent before it is used; :func:`check_workspace` tries it.

    Args:
        settings: Subscription, workspace and cloud.
        credential: Sign-in; ``DefaultAzureCredential`` where not given.

    Raises:
        MissingExtraError: the Azure packages are not installed.
        AzureError: the client cannot be set up.
    """
    return _client(settings, credential, workspace_name=settings.workspace_name)


def registry_client(
    settings: AzureSettings, credential: TokenCredential | None = None, *, name: str | None = None
) -> MLClient:
    """A client of an Azure ML registry; looks up at once where the registry is.

    Args:
        settings: Cloud, and AZUREML_REGISTRY_NAME where ``name`` is not given.
        credential: As of :func:`ml_client`.
        name: Registry.

    Raises:
        ConfigError: no registry is named.
        AzureError: there is no such registry, or it is not reached.
        MissingExtraError: the Azure packages are not installed.
    """
    registry = name or settings.registry_name
    if not registry:
        raise ConfigError("AZUREML_REGISTRY_NAME is not set", "export AZUREML_REGISTRY_NAME=mlr-vision")
    return _client(settings, credential, registry_name=registry)


def containers_client(
    settings: AzureSettings, credential: TokenCredential | None = None
) -> ContainerInstanceManagementClient:
    """A client of Azure Container Instances. Nothing is sent before it is used.

    Raises:
        MissingExtraError: the Azure packages are not installed.
    """
    _prepare()
    with azure_errors("Azure Container Instances"):
        from azure.mgmt.containerinstance import ContainerInstanceManagementClient

        manager = settings.cloud.resource_manager
        return ContainerInstanceManagementClient(
            credential or default_credential(settings),
            settings.subscription_id,
            base_url=manager,
            credential_scopes=[f"{manager}/.default"],
            polling_interval=5,
        )


def vault_client(settings: AzureSettings, credential: TokenCredential | None = None) -> SecretClient:
    """A client of the secrets of the key vault. Nothing is sent before it is used.

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
    """The workspace entity.

    Raises:
        AzureError: not signed in, no access, or no such subscription, resource group or workspace.
    """
    mend = "check AZURE_SUBSCRIPTION_ID, AZURE_RESOURCE_GROUP and AZUREML_WORKSPACE_NAME"
    with azure_errors(f"workspace {settings.workspace_name!r}", mend):
        return client.workspaces.get(settings.workspace_name)


def default_credential(settings: AzureSettings) -> TokenCredential:
    """The sign-in of this machine for the cloud of the settings; see :func:`credential_at`."""
    return credential_at(settings.cloud.authority_host)


def credential_at(authority_host: str) -> TokenCredential:
    """The sign-in of this machine; it is only tried when a token is needed.

    In a job on Azure ML it is the identity of the job's user where the definition asks for that (``user_identity``), else
    the managed identity of the cluster. Neither could be tried without an Azure account.

    Args:
        authority_host: Where to sign in, such as ``https://login.microsoftonline.com``.

    Raises:
        MissingExtraError: the Azure packages are not installed.
        AzureError: the variables of a sign-in are set to what cannot be right.
    """
    _prepare()
    with azure_errors("sign-in"):
        from azure.identity import DefaultAzureCredential

        if os.environ.get("OBO_ENDPOINT"):
            from azure.ai.ml.identity import AzureMLOnBehalfOfCredential

            return AzureMLOnBehalfOfCredential()
        identity = os.environ.get("DEFAULT_IDENTITY_CLIENT_ID")
        options = {"managed_identity_client_id": identity} if identity else {}
        # Microsoft's list of sign-in servers does not know those of another cloud.
        known = authority_host.rstrip("/") in (authority for authority, _ in KNOWN_CLOUDS.values())
        try:
            return DefaultAzureCredential(authority=authority_host, disable_instance_discovery=not known, **options)
        except ValueError as error:  # an empty secret, say
            raise AzureError(f"sign-in: {error}", SIGN_IN) from error


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Swallow what the SDK prints, such as blank lines after an upload, unless this package logs its debug messages."""
    if _verbose():
        yield
        return
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


def _client(settings: AzureSettings, credential: TokenCredential | None, **scope: str) -> MLClient:
    _prepare()
    with azure_errors("Azure ML"), quiet():
        from azure.ai.ml import MLClient

        if not _verbose():  # importing has set the level of this one
            logging.getLogger("azure.ai.ml").setLevel(logging.CRITICAL)
        cloud = settings.cloud
        options: dict[str, Any] = {"cloud": cloud.name}
        if cloud.addresses:
            # The SDK keeps the first addresses it hears for a name: other addresses get another name.
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
    """Set what the Azure packages read while they are imported and used."""
    # The SDK remembers registered components in a folder of the user, for a week; a run must not write outside its home.
    os.environ.setdefault("AZURE_ML_DISABLE_ON_DISK_CACHE", "true")
    level = logging.INFO if _verbose() else logging.CRITICAL
    for name in _LOGGERS:
        logging.getLogger(name).setLevel(level)


def _verbose() -> bool:
    """Whether the log of the Azure packages is wanted: where that of this package is, as with ``mlops --verbose``."""
    return logging.getLogger("vision_mlops").isEnabledFor(logging.DEBUG)
