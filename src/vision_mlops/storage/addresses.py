"""Addresses of folders in Blob Storage, as they are typed: of a container, or of a datastore of Azure Machine Learning."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from vision_mlops.core.errors import ConfigError

FORMS = (
    "write https://ACCOUNT.blob.core.windows.net/CONTAINER/PATH, azureml://datastores/NAME/paths/PATH"
    " or datastore:NAME/PATH"
)
CLOUD_SUFFIXES = {
    "core.windows.net": "AzureCloud",
    "storage.azure.net": "AzureCloud",  # accounts with an address of a DNS zone
    "core.usgovcloudapi.net": "AzureUSGovernment",
    "core.chinacloudapi.cn": "AzureChinaCloud",
}
"""What follows ``.blob.`` in the host of a storage account, and the cloud it is in."""

_LONG = (
    r"subscriptions/(?P<subscription>[^/]+)/resourcegroups/(?P<group>[^/]+)"
    r"(?:/providers/microsoft\.machinelearningservices)?/workspaces/(?P<workspace>[^/]+)/"
)
_DATASTORE = re.compile(
    rf"azureml://(?:{_LONG})?datastores/(?P<name>[^/]+)(?:/paths)?(?:/(?P<path>.*))?", re.IGNORECASE
)
_SHORT = re.compile(r"datastore:(?P<name>[^/]+)(?:/(?P<path>.*))?")
_NAME = re.compile(r"[A-Za-z0-9_-]{1,255}")
_CONTAINER = re.compile(r"\$root|\$web|(?!.*--)[a-z0-9][a-z0-9-]{1,61}[a-z0-9]")


@dataclass(frozen=True)
class ContainerAddress:
    """A folder of a container.

    Attributes:
        account_url: ``https://ACCOUNT.blob.core.windows.net``, or ``http://127.0.0.1:10000/ACCOUNT`` of an emulator.
        account: Name of the storage account.
        container: Name of the container.
        path: Folder in it, without slashes at its ends; empty for the container itself.
    """

    account_url: str
    account: str
    container: str
    path: str


@dataclass(frozen=True)
class DatastoreAddress:
    """A folder of a datastore. Workspace, group and subscription are empty if the settings decide."""

    name: str
    path: str
    workspace: str = ""
    group: str = ""
    subscription: str = ""


def parse_address(text: str, suffixes: Iterable[str] = ()) -> ContainerAddress | DatastoreAddress:
    """Parse an address.

    Args:
        text: An address in one of :data:`FORMS`.
        suffixes: Further host suffixes of storage accounts, besides :data:`CLOUD_SUFFIXES`.

    Raises:
        ConfigError: it is malformed, contains a signature or password, or names a host that is not a storage account.
            The message repeats no secret.
    """
    text = text.strip()
    if "\0" in text:
        raise ConfigError("the address contains a null byte", FORMS)
    if re.search(r"[?&]sig=|AccountKey=|SharedAccessSignature=", text, re.IGNORECASE):
        raise ConfigError(
            "the address contains a signature or key, which others can see in the process list and in the shell history",
            "remove what follows the ?, and export the signature as AZURE_STORAGE_SAS_TOKEN, or a connection string as"
            " AZURE_STORAGE_CONNECTION_STRING",
        )
    match = _DATASTORE.fullmatch(text) or _SHORT.fullmatch(text)
    if match:
        found = match.groupdict()
        if not _NAME.fullmatch(found["name"]):
            raise ConfigError(f"{found['name']!r} is not a valid datastore name", "use letters, digits, - and _")
        parts = {key: value or "" for key, value in found.items()}
        return DatastoreAddress(**{**parts, "path": _path(parts["path"], text)})
    if not re.match(r"https?://", text, re.IGNORECASE):
        raise ConfigError(f"{text.partition('?')[0]!r} is not an address in Blob Storage", FORMS)
    return _container(text, (*CLOUD_SUFFIXES, *suffixes))


def is_loopback(host: str) -> bool:
    """Return whether a host name or address means this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _container(text: str, suffixes: Iterable[str]) -> ContainerAddress:
    shown = re.sub(r"//[^/@]*@", "//", text.partition("?")[0])
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname or "", parts.port
    except ValueError as error:
        raise ConfigError(f"{shown!r} is not a valid address", FORMS) from error
    if parts.username is not None or parts.password is not None:
        raise ConfigError(
            f"{shown!r} contains a user name or password", "remove it: credentials come from the environment"
        )
    if parts.query or "?" in text:
        raise ConfigError(f"{shown!r} has a query string", "remove the ? and what follows it; in a name write %3F")
    if "#" in text:
        raise ConfigError(f"{shown!r} contains a #", "in a name write %23")
    local = is_loopback(host)
    if parts.scheme.lower() == "http" and not local:
        raise ConfigError(f"{shown!r} is not encrypted", "write https://")
    if not local and not any(host.endswith(f".blob.{suffix}") for suffix in suffixes):
        raise ConfigError(
            f"{host!r} is not a storage account",
            "write ACCOUNT.blob.core.windows.net; for another cloud set AZURE_STORAGE_SUFFIX to what follows .blob.",
        )
    try:
        segments = unquote(parts.path, errors="strict").lstrip("/").split("/")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{shown!r} is not UTF-8", "write names in UTF-8; a % in a name as %25") from error
    account = segments.pop(0) if local else host.partition(".")[0]
    container = segments.pop(0) if segments else ""
    if not container:
        raise ConfigError(f"{shown!r} does not name a container", FORMS)
    if not _CONTAINER.fullmatch(container):
        raise ConfigError(
            f"{container!r} is not a valid container name", "use 3 to 63 lower-case letters, digits and single hyphens"
        )
    account_url = f"{parts.scheme.lower()}://{parts.netloc.lower()}" + (f"/{account}" if local and account else "")
    return ContainerAddress(account_url, account, container, _path("/".join(segments), shown))


def _path(text: str, shown: str) -> str:
    path = text.strip("/")
    if any(part in ("", ".", "..") for part in path.split("/")) and path:
        raise ConfigError(f"the path {path!r} in {shown!r} has empty parts, . or ..", "write it without them")
    if "\\" in path or any(ord(letter) < 32 for letter in path):
        raise ConfigError(f"the path {path!r} has a backslash or control character", "separate folders with /")
    return path
