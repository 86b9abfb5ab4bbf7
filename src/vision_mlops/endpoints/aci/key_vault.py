"""Keys of endpoints as secrets of an Azure Key Vault: two for each endpoint, so that one can be replaced while the other one
is in use.

A key is never printed, logged or part of an exception; objects here do not show it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from vision_mlops.azure.azure_errors import azure_errors, found_or_none
from vision_mlops.core.errors import AzureError
from vision_mlops.serving.access_keys import KEY_NAMES, new_key

if TYPE_CHECKING:
    from azure.keyvault.secrets import KeyVaultSecret, SecretClient


@dataclass(frozen=True, slots=True)
class EndpointKeys:
    """Both keys of an endpoint by name. ``versions`` are those of their secrets, which may be shown and compared."""

    values: Mapping[str, str] = field(repr=False)
    versions: Mapping[str, str]

    @property
    def stamp(self) -> str:
        """Both versions in one word for a tag."""
        return " ".join(self.versions[which] for which in KEY_NAMES)

    def to_file(self) -> str:
        """Return the content of the file that the scoring server reads: one key per line."""
        return "".join(f"{self.values[which]}\n" for which in KEY_NAMES)


class KeyStore:
    """The keys of endpoints in one vault."""

    def __init__(self, client: SecretClient) -> None:
        self._client = client

    def read(self, endpoint: str) -> EndpointKeys:
        """Return the keys of an endpoint. Raises AzureError."""
        found = {}
        for which in KEY_NAMES:
            secret = self._find(endpoint, which)
            if secret is None:
                raise AzureError(
                    f"{self._client.vault_url} has no secret {self.secret_name(endpoint, which)!r}",
                    "check MLOPS_AZURE_KEY_VAULT, or deploy the endpoint again, which creates missing keys",
                    404,
                )
            found[which] = secret
        return _keys(found)

    def ensure(self, endpoint: str) -> EndpointKeys:
        """Return the keys of an endpoint, and create missing ones. Raises AzureError."""
        return _keys(
            {which: self._find(endpoint, which) or self._write(endpoint, which, new_key()) for which in KEY_NAMES}
        )

    def exist(self, endpoint: str) -> bool:
        """Return whether an endpoint has a key. Raises AzureError."""
        return any(self._find(endpoint, which) is not None for which in KEY_NAMES)

    def renew(self, endpoint: str, which: str) -> EndpointKeys:
        """Replace one key with a new version of its secret; the other key stays. Raises AzureError."""
        return self._replace(endpoint, which, new_key(), self.read(endpoint))

    def put_back(self, endpoint: str, which: str, former: EndpointKeys) -> EndpointKeys:
        """Make a former key the newest version again. Raises AzureError."""
        return self._replace(endpoint, which, former.values[which], former)

    def delete(self, endpoint: str) -> None:
        """Delete the keys of an endpoint, as far as they exist. Raises AzureError."""
        for which in KEY_NAMES:
            name = self.secret_name(endpoint, which)
            try:
                with self._errors(name):
                    self._client.begin_delete_secret(name).wait()
            except AzureError as error:
                if error.status != 404:
                    raise

    @staticmethod
    def secret_name(endpoint: str, which: str) -> str:
        """Return the name of the secret with a key."""
        return f"mlops-{endpoint}-{which}"

    def _replace(self, endpoint: str, which: str, value: str, keys: EndpointKeys) -> EndpointKeys:
        version = str(self._write(endpoint, which, value).properties.version)
        return EndpointKeys({**keys.values, which: value}, {**keys.versions, which: version})

    def _find(self, endpoint: str, which: str) -> KeyVaultSecret | None:
        name = self.secret_name(endpoint, which)
        with self._errors(name):
            return found_or_none(lambda: self._client.get_secret(name))

    def _write(self, endpoint: str, which: str, value: str) -> KeyVaultSecret:
        name = self.secret_name(endpoint, which)
        tags = {"mlops.endpoint": endpoint}
        try:
            with self._errors(name):
                return self._client.set_secret(name, value, content_type="text/plain", tags=tags)
        except AzureError as error:
            if error.status != 409:
                raise
        # A vault keeps deleted secrets and their names for some time: the secret is recovered before it gets a new value.
        with self._errors(name):
            self._client.begin_recover_deleted_secret(name).wait()
            return self._client.set_secret(name, value, content_type="text/plain", tags=tags)

    @contextlib.contextmanager
    def _errors(self, name: str) -> Iterator[None]:
        hint = "check MLOPS_AZURE_KEY_VAULT"
        with azure_errors(f"secret {name!r} of {self._client.vault_url}", hint):
            try:
                yield
            except ValueError as error:  # the vault asks for a token for another service
                raise AzureError(f"{self._client.vault_url} cannot be trusted: {error}", hint) from error


def _keys(secrets: Mapping[str, KeyVaultSecret]) -> EndpointKeys:
    return EndpointKeys(
        {which: str(secret.value) for which, secret in secrets.items()},
        {which: str(secret.properties.version) for which, secret in secrets.items()},
    )
