"""Ways to sign in to Blob Storage: a shared access signature, the account key, or a token of Microsoft Entra ID.

A signature or key only ever comes from the environment or from a datastore of the workspace. None of these objects shows
what it holds when it is printed, and :meth:`SignIn.hide` takes it out of texts of others.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import re
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, quote, unquote

from vision_mlops.azure.azure_errors import azure_errors
from vision_mlops.core.errors import ConfigError

if TYPE_CHECKING:
    from azure.core.credentials import TokenCredential

    from vision_mlops.storage.addresses import ContainerAddress

SAS_VARIABLE = "AZURE_STORAGE_SAS_TOKEN"
CONNECTION_VARIABLE = "AZURE_STORAGE_CONNECTION_STRING"
SCOPE = "https://storage.azure.com/.default"
"""Of tokens for Blob Storage."""
_LIFETIME = timedelta(hours=1)
_RENEWED_BEFORE_SECONDS = 600.0
_SAS = re.compile(r"[\w%&=:/+,.~*!;'()-]+", re.ASCII)


class SignIn(ABC):
    """Authorises requests. Threads share it."""

    kind = ""
    """``sas``, ``key`` or ``identity``."""

    def query(self) -> str:
        """Return what is added to the query of each request; may be empty."""
        return ""

    def headers(self) -> dict[str, str]:
        """Return the headers that are added to each request."""
        return {}

    def renew(self) -> bool:
        """Renew it after the service refused it; returns whether it is worth asking again."""
        return False

    @property
    def ended(self) -> str:
        """When it expired, if it says so itself and that is in the past; otherwise empty."""
        return ""

    @abstractmethod
    def secrets(self) -> list[str]:
        """Return the texts that must not be shown."""

    def hide(self, text: str) -> str:
        """Return the text with all secrets replaced, however they are quoted in an address."""
        for secret in self.secrets():
            for form in {secret, quote(secret, safe=""), quote(secret), unquote(secret)}:
                if form:
                    text = text.replace(form, "***")
        return re.sub(r"(?i)\b(sig=)[^&\s\"'<>]+", r"\1***", text)


class SharedAccessSignature(SignIn):
    """A shared access signature that was created elsewhere.

    Args:
        token: ``sv=...&sig=...``, with or without a question mark before it.
        source: Where it comes from, for messages.

    Raises:
        ConfigError: it is malformed; the message does not repeat it.
    """

    kind = "sas"

    def __init__(self, token: str, source: str) -> None:
        self._token = token.strip().lstrip("?")
        found = parse_qs(self._token)
        if not _SAS.fullmatch(self._token) or "sig" not in found:
            raise ConfigError(
                f"{source} is not a shared access signature",
                "it looks like sv=2022-11-02&sp=rwdl&...&sig=..., percent-encoded",
            )
        self._signature = found["sig"][0]
        self._ends = found.get("se", [""])[0]

    def query(self) -> str:
        """Return the signature."""
        return self._token

    @property
    def ended(self) -> str:
        """When it expired; empty if it has not."""
        try:
            end = datetime.fromisoformat(self._ends)
        except ValueError:
            return ""
        end = end if end.tzinfo else end.replace(tzinfo=UTC)
        return self._ends if end < datetime.now(UTC) else ""

    def secrets(self) -> list[str]:
        """Return the signature, alone and with its parameters."""
        return [self._signature, self._token]


class AccountKey(SignIn):
    """The key of a storage account. Requests carry a signature for one container, which is renewed every hour.

    Args:
        account: Name of the storage account.
        container: Name of the container.
        key: The key.
        source: Where it comes from, for messages.

    Raises:
        ConfigError: it is malformed; the message does not repeat it.
    """

    kind = "key"

    def __init__(self, account: str, container: str, key: str, source: str) -> None:
        self._account, self._container, self._key = account, container, key
        self._lock = threading.Lock()
        self._token, self._ends = "", 0.0
        try:
            base64.b64decode(key, validate=True)
        except (binascii.Error, ValueError):
            raise ConfigError(f"{source} has a malformed account key", "copy it again: it is base64") from None

    def query(self) -> str:
        """Return a signature that is valid for at least ten minutes."""
        with self._lock:
            if time.time() > self._ends - _RENEWED_BEFORE_SECONDS:
                with azure_errors("signature for the container"):
                    from azure.storage.blob import generate_container_sas

                    now = datetime.now(UTC)
                    self._token = generate_container_sas(
                        self._account,
                        self._container,
                        account_key=self._key,
                        permission="racwdl",
                        start=now - timedelta(minutes=15),  # clocks differ
                        expiry=now + _LIFETIME,
                    )
                self._ends = (now + _LIFETIME).timestamp()
            return self._token

    def secrets(self) -> list[str]:
        """Return the key and the signature that was made with it."""
        return [self._key, *parse_qs(self._token).get("sig", [])]

    def make_container(self, account_url: str) -> None:
        """Create the container, which its own signature may not do; an existing one is fine. Raises AzureError."""
        with azure_errors(f"container {self._container!r}"):
            from azure.core.exceptions import ResourceExistsError
            from azure.storage.blob import ContainerClient

            credential = {"account_name": self._account, "account_key": self._key}
            with contextlib.suppress(ResourceExistsError):
                ContainerClient(account_url, self._container, credential=credential).create_container()


class EntraIdentity(SignIn):
    """A token of Microsoft Entra ID, renewed before it expires.

    Args:
        credential: Source of the tokens.
    """

    kind = "identity"

    def __init__(self, credential: TokenCredential) -> None:
        self._credential = credential
        self._lock = threading.Lock()
        self._token, self._ends = "", 0.0
        self._renewed = 0.0

    def headers(self) -> dict[str, str]:
        """Return the header with the token. Raises AzureError if nobody is signed in."""
        with self._lock:
            if time.time() > self._ends - 300:
                with azure_errors("sign-in to storage"):
                    token = self._credential.get_token(SCOPE)
                self._token, self._ends = token.token, float(token.expires_on)
                self._renewed = time.monotonic()
            return {"Authorization": f"Bearer {self._token}"}

    def renew(self) -> bool:
        """Forget the token, unless it has only just been renewed and was refused nevertheless."""
        with self._lock:
            if time.monotonic() - self._renewed < 60:
                return False
            self._ends = 0.0
            return True

    def secrets(self) -> list[str]:
        """Return the token."""
        return [self._token] if self._token else []


def from_environment(address: ContainerAddress, environ: Mapping[str, str]) -> SignIn | None:
    """Return the credentials for storage from the environment; None if it has none.

    A connection string takes precedence over a signature, as in the Azure CLI.

    Raises:
        ConfigError: it is malformed, or for another account.
    """
    connection = environ.get(CONNECTION_VARIABLE, "").strip()
    if connection:
        return _connected(address, connection)
    token = environ.get(SAS_VARIABLE, "").strip()
    return SharedAccessSignature(token, SAS_VARIABLE) if token else None


def _connected(address: ContainerAddress, text: str) -> SignIn:
    pairs = (item.partition("=") for item in text.split(";") if item.strip())
    parts = {name.strip().lower(): value.strip() for name, _, value in pairs}
    source = CONNECTION_VARIABLE
    account = parts.get("accountname", "")
    if not account:
        endpoint = parts.get("blobendpoint", "").split("://")[-1]
        account = endpoint.partition(".")[0] if "." in endpoint.partition("/")[0] else ""
    if account and account != address.account:
        raise ConfigError(
            f"{source} is for the account {account!r}, the address names {address.account!r}",
            f"unset {source}, or export that of {address.account}",
        )
    if parts.get("accountkey"):
        return AccountKey(address.account, address.container, parts["accountkey"], source)
    if parts.get("sharedaccesssignature"):
        return SharedAccessSignature(parts["sharedaccesssignature"], source)
    raise ConfigError(
        f"{source} has neither AccountKey nor SharedAccessSignature",
        "copy it from the access keys of the storage account, or unset it to sign in with `az login`",
    )
