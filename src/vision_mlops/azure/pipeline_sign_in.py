"""The sign-in of an Azure DevOps pipeline by its service connection, without a secret and for as long as the job runs.

The login that the task AzureCLI@2 makes for such a connection ends after 10 to 60 minutes, in the middle of a training.
``AzurePipelinesCredential`` asks the pipeline for a new federated token whenever it needs one.
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
"""Variable that names the credential to use, or ``prod`` or ``dev``; that of ``DefaultAzureCredential``."""
NAME = "AzurePipelinesCredential"
ACCESS_TOKEN = "SYSTEM_ACCESSTOKEN"
REQUEST_URI = "SYSTEM_OIDCREQUESTURI"
_CONNECTION = {
    "tenant_id": "AZURESUBSCRIPTION_TENANT_ID",
    "client_id": "AZURESUBSCRIPTION_CLIENT_ID",
    "service_connection_id": "AZURESUBSCRIPTION_SERVICE_CONNECTION_ID",
    "system_access_token": ACCESS_TOKEN,
}
VARIABLES = (REQUEST_URI, *_CONNECTION.values())
"""What a pipeline sets: the agent the first, the definition the token, the task with the service connection the others."""
_HINT = (
    "set azureSubscription on the task AzureCLI@2 or AzurePowerShell@5, with a connection by workload identity federation,"
    f" and `env: {{{ACCESS_TOKEN}: $(System.AccessToken)}}`"
)

log = logging.getLogger(__name__)


def pipeline_credential(environ: Mapping[str, str] = os.environ, **options: Any) -> TokenCredential | None:
    """The credential of the pipeline that this process runs in.

    Args:
        environ: The environment.
        options: Where to sign in, as ``DefaultAzureCredential`` takes it.

    Returns:
        None outside of a pipeline, where its variables are incomplete, or where ``AZURE_TOKEN_CREDENTIALS`` names another.

    Raises:
        AzureError: ``AZURE_TOKEN_CREDENTIALS`` asks for it, and variables are missing.
    """
    choice = environ.get(CHOICE, "").strip().lower()
    asked = choice == NAME.lower()
    missing = [name for name in VARIABLES if not environ.get(name, "").strip()]
    if missing:
        if asked:
            raise AzureError(f"sign-in: {CHOICE}={NAME}, and {', '.join(missing)} not set", _HINT)
        if missing == [ACCESS_TOKEN] and choice in ("", "prod"):
            _warn_of_an_early_end()
        return None
    if not asked and choice not in ("", "prod"):
        return None
    from azure.identity import AzurePipelinesCredential

    return AzurePipelinesCredential(**{key: environ[name].strip() for key, name in _CONNECTION.items()}, **options)


@functools.cache
def _warn_of_an_early_end() -> None:
    """Say once what the pipeline's definition lacks: without it ``az`` signs in, and nobody sees why it ends so early."""
    log.warning("%s is not set, so the sign-in of this pipeline may end within the hour: %s", ACCESS_TOKEN, _HINT)
