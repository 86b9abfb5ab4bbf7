"""The sign-in of a pipeline of Azure DevOps or GitHub by workload identity federation: without a secret, for the whole job.

The login that the task AzureCLI@2 makes for a service connection ends after 10 to 60 minutes, in the middle of a training.
The credentials here ask Azure DevOps or GitHub for a new token of the pipeline whenever they need one.
"""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from vision_mlops.core.errors import AzureError

if TYPE_CHECKING:
    from azure.core.credentials import TokenCredential

CHOICE = "AZURE_TOKEN_CREDENTIALS"
"""Variable that names the credential to use, or ``prod`` or ``dev``; the one of ``DefaultAzureCredential``."""
ACCESS_TOKEN = "SYSTEM_ACCESSTOKEN"
_AZURE_DEVOPS, _GITHUB = "AzurePipelinesCredential", "GitHubActionsCredential"
SIGN_INS = (
    "dev",
    "prod",
    "EnvironmentCredential",
    "WorkloadIdentityCredential",
    "ManagedIdentityCredential",
    "VisualStudioCodeCredential",
    "AzureCliCredential",
    "AzurePowerShellCredential",
    "AzureDeveloperCliCredential",
    "InteractiveBrowserCredential",
    _AZURE_DEVOPS,
    _GITHUB,
)
"""Values of that variable: those of ``DefaultAzureCredential`` that need no further package, and those made here."""
_CONNECTION = {
    "tenant_id": "AZURESUBSCRIPTION_TENANT_ID",
    "client_id": "AZURESUBSCRIPTION_CLIENT_ID",
    "service_connection_id": "AZURESUBSCRIPTION_SERVICE_CONNECTION_ID",
    "system_access_token": ACCESS_TOKEN,
}
_VARIABLES = {
    # The agent sets the first, the definition of the pipeline the token, the task with the service connection the others.
    _AZURE_DEVOPS: ("SYSTEM_OIDCREQUESTURI", *_CONNECTION.values()),
    # GitHub sets the first two, the definition of the workflow the others.
    _GITHUB: (
        "ACTIONS_ID_TOKEN_REQUEST_URL",
        "ACTIONS_ID_TOKEN_REQUEST_TOKEN",
        "AZURE_CLIENT_ID",
        "AZURE_TENANT_ID",
    ),
}
_HINTS = {
    _AZURE_DEVOPS: (
        "set azureSubscription on the task AzureCLI@2 or AzurePowerShell@5, with a connection by workload identity"
        f" federation, and `env: {{{ACCESS_TOKEN}: $(System.AccessToken)}}`"
    ),
    _GITHUB: (
        "give the job `permissions: id-token: write`, and set AZURE_CLIENT_ID and AZURE_TENANT_ID in its environment"
    ),
}
_AUDIENCE = "api://AzureADTokenExchange"

log = logging.getLogger(__name__)


def pipeline_credential(environ: Mapping[str, str] = os.environ, **options: Any) -> TokenCredential | None:
    """Return the credential of the pipeline or workflow that this process runs in.

    Args:
        environ: The environment.
        options: Where to sign in, as ``DefaultAzureCredential`` takes it.

    Returns:
        None outside of a pipeline, if its variables are incomplete, if a workflow has a secret, or if
        ``AZURE_TOKEN_CREDENTIALS`` names another credential.

    Raises:
        AzureError: ``AZURE_TOKEN_CREDENTIALS`` asks for it, and variables are missing.
    """
    choice = environ.get(CHOICE, "").strip().lower()
    for name, variables in _VARIABLES.items():
        asked = choice == name.lower()
        missing = [variable for variable in variables if not environ.get(variable, "").strip()]
        if asked and missing:
            raise AzureError(f"sign-in: {CHOICE}={name}, but these are not set: {', '.join(missing)}", _HINTS[name])
        if not asked and choice not in ("", "prod"):
            continue
        if missing == [ACCESS_TOKEN]:
            _warn_of_an_early_end()
        by_secret = name == _GITHUB and not asked and environ.get("AZURE_CLIENT_SECRET", "").strip()
        if not (missing or by_secret):
            return _credential(name, environ, options)
    return None


def _credential(name: str, environ: Mapping[str, str], options: Mapping[str, Any]) -> TokenCredential:
    from azure.identity import AzurePipelinesCredential, ClientAssertionCredential

    if name == _AZURE_DEVOPS:
        words = {key: environ[variable].strip() for key, variable in _CONNECTION.items()}
        return AzurePipelinesCredential(**words, **options)
    url, token, client, tenant = (environ[variable].strip() for variable in _VARIABLES[name])
    return ClientAssertionCredential(tenant, client, lambda: _assertion(url, token), **options)


def _assertion(url: str, token: str) -> str:
    """Return a token of the workflow. Raises AzureError if GitHub issues none."""
    from azure.core import PipelineClient
    from azure.core.exceptions import AzureError as SdkError
    from azure.core.pipeline.policies import RetryPolicy
    from azure.core.rest import HttpRequest, HttpResponse

    request = HttpRequest("GET", url, params={"audience": _AUDIENCE}, headers={"Authorization": f"Bearer {token}"})
    client: PipelineClient[HttpRequest, HttpResponse] = PipelineClient(url, policies=[RetryPolicy()])
    try:
        with client:
            response = client.send_request(request)
            response.raise_for_status()
            value = response.json().get("value")
    except (SdkError, ValueError, AttributeError) as error:
        text = f"sign-in: GitHub issues no token for the workflow: {error}".splitlines()[0]
        raise AzureError(text, _HINTS[_GITHUB]) from error
    if not isinstance(value, str) or not value:
        raise AzureError("sign-in: the response of GitHub has no token for the workflow", _HINTS[_GITHUB])
    return value


@functools.cache
def _warn_of_an_early_end() -> None:
    """Warn once of what the pipeline's definition lacks: without it, ``az`` signs in, and that ends early."""
    log.warning(
        "%s is not set, so the sign-in of this pipeline may end within the hour: %s",
        ACCESS_TOKEN,
        _HINTS[_AZURE_DEVOPS],
    )
