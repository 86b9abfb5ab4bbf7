"""The sign-in of a workflow on GitHub by workload identity federation, without a secret and for as long as the job runs.

GitHub gives the steps of a job with ``permissions: id-token: write`` an address that makes tokens of the workflow, which
Microsoft Entra ID takes in exchange for its own. A new one is asked for whenever it is needed, so a long step does not lose
its sign-in.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from vision_mlops.azure.pipeline_sign_in import CHOICE
from vision_mlops.core.errors import AzureError

if TYPE_CHECKING:
    from azure.core.credentials import TokenCredential

NAME = "GitHubActionsCredential"
REQUEST_URL = "ACTIONS_ID_TOKEN_REQUEST_URL"
REQUEST_TOKEN = "ACTIONS_ID_TOKEN_REQUEST_TOKEN"
VARIABLES = (REQUEST_URL, REQUEST_TOKEN, "AZURE_CLIENT_ID", "AZURE_TENANT_ID")
"""What GitHub sets, the first two, and the definition of the workflow."""
_AUDIENCE = "api://AzureADTokenExchange"
_HINT = "give the job `permissions: id-token: write`, and set AZURE_CLIENT_ID and AZURE_TENANT_ID in its environment"


def workflow_credential(environ: Mapping[str, str] = os.environ, **options: Any) -> TokenCredential | None:
    """The credential of the workflow that this process runs in.

    Args:
        environ: The environment.
        options: Where to sign in, as ``DefaultAzureCredential`` takes it.

    Returns:
        None outside of a workflow, where its variables are incomplete, where a secret is set, or where
        ``AZURE_TOKEN_CREDENTIALS`` names another.

    Raises:
        AzureError: ``AZURE_TOKEN_CREDENTIALS`` asks for it, and variables are missing.
    """
    choice = environ.get(CHOICE, "").strip().lower()
    asked = choice == NAME.lower()
    missing = [name for name in VARIABLES if not environ.get(name, "").strip()]
    if missing:
        if asked:
            raise AzureError(f"sign-in: {CHOICE}={NAME}, and {', '.join(missing)} not set", _HINT)
        return None
    if not asked and (choice not in ("", "prod") or environ.get("AZURE_CLIENT_SECRET", "").strip()):
        return None
    from azure.identity import ClientAssertionCredential

    url, token, client, tenant = (environ[name].strip() for name in VARIABLES)
    return ClientAssertionCredential(tenant, client, lambda: _assertion(url, token), **options)


def _assertion(url: str, token: str) -> str:
    """A token of the workflow. Raises AzureError where GitHub gives none."""
    from azure.core import PipelineClient
    from azure.core.exceptions import AzureError as SdkError
    from azure.core.pipeline.policies import RetryPolicy
    from azure.core.rest import HttpRequest, HttpResponse

    request = HttpRequest("GET", url, params={"audience": _AUDIENCE}, headers={"Authorization": f"Bearer {token}"})
    client: PipelineClient[HttpRequest, HttpResponse] = PipelineClient(url, policies=[RetryPolicy()])
    try:
        with client:
            answer = client.send_request(request)
            answer.raise_for_status()
            value = answer.json().get("value")
    except (SdkError, ValueError, AttributeError) as error:
        raise AzureError(f"sign-in: GitHub gives no token of the workflow: {error}".splitlines()[0], _HINT) from error
    if not isinstance(value, str) or not value:
        raise AzureError("sign-in: the answer of GitHub holds no token of the workflow", _HINT)
    return value
