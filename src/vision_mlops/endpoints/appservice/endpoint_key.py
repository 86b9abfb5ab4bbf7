"""The key of a scoring endpoint, where the web app reads it: a secret of the key vault, to which a setting refers."""

from __future__ import annotations

from vision_mlops.azure.azure_errors import azure_errors, is_missing
from vision_mlops.azure.clients import vault_client
from vision_mlops.config.azure_settings import AzureSettings


def key_reference(settings: AzureSettings, endpoint: str, key: str) -> str:
    """Keep a key in the key vault, and return the setting by which App Service finds it there.

    The setting names no version, so App Service takes a key that is made anew within a day.

    Args:
        settings: Names the vault.
        endpoint: Whose key it is.
        key: It is never printed.

    Raises:
        ConfigError: MLOPS_AZURE_KEY_VAULT is not set.
        AzureError: the vault refuses, or is not reached.
    """
    client, name = vault_client(settings), f"{endpoint}-app-key"
    with azure_errors(f"secret {name!r}"):
        try:
            known = client.get_secret(name).value
        except Exception as error:
            if not is_missing(error):
                raise
            known = None
        if known != key:
            client.set_secret(name, key, content_type="key of a scoring endpoint")
    return f"@Microsoft.KeyVault(SecretUri={client.vault_url.rstrip('/')}/secrets/{name}/)"
