"""Tokens for Azure DevOps and GitHub: of the pipeline, of an identity, or from a key vault."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Literal
from urllib.parse import urlsplit

from vision_mlops.azure.azure_errors import azure_errors
from vision_mlops.azure.clients import authority_of, credential_at
from vision_mlops.azure.pipeline_sign_in import ACCESS_TOKEN
from vision_mlops.core.errors import AzureError, ConfigError

AUDIENCE = "499b84ac-1321-427f-aa17-267ca6975798"
"""Id of Azure DevOps in Microsoft Entra ID."""
_GITHUB = ("GH_TOKEN", "GITHUB_TOKEN")
_GIVE_SECRET = (
    "give --token-secret https://VAULT.vault.azure.net/secrets/NAME; the workflows read it from the variable"
    " MLOPS_GITHUB_TOKEN_SECRET"
)
_SECRET = re.compile(r"/secrets/(?P<name>[A-Za-z0-9-]{1,127})(/(?P<version>[0-9a-f]{32}))?/?")


def service_token(
    service: Literal["Azure DevOps", "GitHub"], *, secret: str = "", environ: Mapping[str, str] | None = None
) -> str:
    """Return a token for one of the two services.

    Args:
        service: Azure DevOps accepts the token of the pipeline that this is a step of, or one of Microsoft Entra ID for
            the identity that is signed in. GitHub only accepts its own.
        secret: Address of a secret in a key vault with the token.
        environ: The environment.

    Raises:
        ConfigError: no token for GitHub is set, or the address is not that of a secret.
        AzureError: nobody is signed in, or the vault refuses.
    """
    environ = os.environ if environ is None else environ
    if secret:
        return _vault_secret(secret, environ)
    if service == "GitHub":
        if not (found := _github_token(environ)):
            raise ConfigError("no token for GitHub is set", f"set GH_TOKEN, or {_GIVE_SECRET}")
        return found
    if token := environ.get(ACCESS_TOKEN, "").strip():
        return token
    credential = credential_at(authority_of(environ))
    with azure_errors("sign-in to Azure DevOps"):
        return credential.get_token(f"{AUDIENCE}/.default").token


def check_token_source(
    service: Literal["Azure DevOps", "GitHub"], secret: str | None, *, environ: Mapping[str, str] | None = None
) -> None:
    """Refuse a source that cannot provide a token, before anything is created or paid for; nothing is sent.

    Args:
        service: See :func:`service_token`.
        secret: Address of a secret, None if none is given, or empty if the variable that names it is not set.
        environ: The environment in which the token is requested; empty for that of a job.

    Raises:
        ConfigError: no token for GitHub is set, or the address is not that of a secret.
    """
    environ = os.environ if environ is None else environ
    if secret is not None:
        _vault_address(secret)
    elif service == "GitHub" and not _github_token(environ):
        raise ConfigError("no token for GitHub is set, so the next run could not be started", _GIVE_SECRET)


def _github_token(environ: Mapping[str, str]) -> str:
    return next((environ[name].strip() for name in _GITHUB if environ.get(name, "").strip()), "")


def _vault_address(address: str) -> tuple[str, str, str | None]:
    """Return vault, name and version of the address of a secret. Raises ConfigError."""
    try:
        parts = urlsplit(address)
        vault = f"https://{parts.netloc}" if parts.scheme == "https" and parts.hostname else ""
    except ValueError:  # brackets without an address
        vault = ""
    found = _SECRET.fullmatch(parts.path) if vault else None
    if not found:
        raise ConfigError(f"--token-secret {address!r} is not the address of a secret", _GIVE_SECRET)
    return vault, found["name"], found["version"]


def _vault_secret(address: str, environ: Mapping[str, str]) -> str:
    vault, name, version = _vault_address(address)
    credential = credential_at(authority_of(environ))
    with azure_errors(f"secret {name!r}"):
        from azure.keyvault.secrets import SecretClient

        value = SecretClient(vault, credential).get_secret(name, version).value
    if not value:
        raise AzureError(f"secret {name!r} is empty", "store the token in it")
    return value
