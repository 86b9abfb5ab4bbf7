"""The key of a scoring endpoint for the web app: a secret of the key vault that a setting refers to."""

from __future__ import annotations

from vision_mlops.azure.azure_errors import azure_errors, found_or_none
from vision_mlops.azure.clients import vault_client
from vision_mlops.config.azure_settings import AzureSettings


def key_reference(settings: AzureSettings, endpoint: str, key: str) -> str:
    """Store a key in the key vault, and return the setting with which App Service finds it there.

    The setting names no version, so App Service picks up a new key within a day.

    Args:
        settings: Names the vault.
        endpoint: Whose key it is.
        key: The key, which is never printed.

    Raises:
        ConfigError: MLOPS_AZURE_KEY_VAULT is not set.
        AzureError: the vault refuses, or cannot be reached.
    """
    client, name = vault_client(settings), f"{endpoint}-app-key"
    with azure_errors(f"secret {name!r}"):
        known = found_or_none(lambda: client.get_secret(name))
        if known is None or known.value != key:
            client.set_secret(name, key, content_type="key of a scoring endpoint")
    return f"@Microsoft.KeyVault(SecretUri={client.vault_url.rstrip('/')}/secrets/{name}/)"
