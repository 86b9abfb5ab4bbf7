"""The variables that point any client of Azure at a running emulator."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping

from azureml_emulator.identity.sign_in_routes import by_secret
from azureml_emulator.process_commands import ProcessCommands
from azureml_emulator.resources.arm_paths import GROUP, LOCATION, SUBSCRIPTION
from azureml_emulator.resources.subscription import Subscription
from azureml_emulator.rest.cloud_addresses import VAULT
from azureml_emulator.state_folder import StateFolder

_DIRECT = "127.0.0.1,localhost,::1"
IN_THE_WAY = (
    "ALL_PROXY", "all_proxy", "ARM_CLOUD_METADATA_URL", "AZURE_AUTHORITY_HOST", "AZURE_CLIENT_CERTIFICATE_PATH",
    "AZURE_CLOUD", "AZURE_FEDERATED_TOKEN_FILE", "AZURE_PASSWORD", "AZURE_PORTAL", "AZURE_RESOURCE_MANAGER",
    "AZURE_STORAGE_CONNECTION_STRING", "AZURE_STORAGE_SAS_TOKEN", "AZURE_STORAGE_SUFFIX", "AZURE_USERNAME",
    "AZUREML_CURRENT_CLOUD", "AZUREML_REGISTRY_DISCOVERY", "AZUREML_RESOURCE_ID", "IDENTITY_ENDPOINT", "MSI_ENDPOINT",
)  # fmt: skip
"""Variables that would direct clients to another cloud or another sign-in."""


def way_variables(state: StateFolder, port: int) -> dict[str, str]:
    """Return the variables that direct a client to the emulator, without any sign-in.

    Args:
        state: State folder of the emulator.
        port: Port of its proxy.
    """
    proxy, authority = f"http://127.0.0.1:{port}", str(state.tls / "authority.pem")
    return {
        **dict.fromkeys(("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"), proxy),
        **dict.fromkeys(("NO_PROXY", "no_proxy"), _DIRECT),
        **dict.fromkeys(("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS"), authority),
    }


def client_variables(state: StateFolder, port: int) -> dict[str, str]:
    """Return all variables by name.

    Args:
        state: State folder of the emulator.
        port: Port of its proxy.
    """
    return {
        **way_variables(state, port),
        **by_secret(),
        "AZURE_TOKEN_CREDENTIALS": "EnvironmentCredential",
        "AZURE_SUBSCRIPTION_ID": SUBSCRIPTION,
        "AZURE_RESOURCE_GROUP": GROUP,
        "AZURE_LOCATION": LOCATION,
        "AZUREML_WORKSPACE_NAME": Subscription.workspace,
        "AZUREML_REGISTRY_NAME": Subscription.registry,
        "AZURE_CONFIG_DIR": str(state.azure_cli),
        # Otherwise the SDK would cache components in a folder of the user, and use them with the next emulator.
        "AZURE_ML_DISABLE_ON_DISK_CACHE": "true",
        # Seconds between two checks of a running job; the SDK reads it when it is imported.
        "AZUREML_RUN_POLLING_INTERVAL_MIN": "1",
        **ProcessCommands().client_variables(VAULT),
    }


def default_variables() -> dict[str, str]:
    """Return the variables that clients get unless they have them."""
    return ProcessCommands().default_variables(f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}")


def as_shell(
    variables: Mapping[str, str], defaults: Mapping[str, str] | None = None, without: Iterable[str] = IN_THE_WAY
) -> str:
    """Return lines for a shell to evaluate; ``defaults`` are set only if the shell lacks them."""
    lines = [f"unset {' '.join(without)}"]
    lines += [f"export {name}={shlex.quote(value)}" for name, value in variables.items()]
    lines += [f'export {name}="${{{name}:-{value}}}"' for name, value in (defaults or {}).items()]
    return "\n".join(lines)
