"""The addresses of the services: all on one loopback address, or each under the host name that it has on Azure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

LOCATION = "westeurope"
VAULT = "emulator"
"""Name of the only key vault."""
HostKind = Literal["manager", "login", "ml", "inference", "vault", "blob", "site", "registry", "vision"]

_INFERENCE = re.compile(rf"([^.]+)\.{LOCATION}\.inference\.ml\.azure\.com")
_KINDS: tuple[tuple[HostKind, re.Pattern[str]], ...] = (
    ("manager", re.compile(r"management\.azure\.com")),
    ("login", re.compile(r"login\.(microsoftonline|windows)\.(com|net)|sts\.windows\.net")),
    ("ml", re.compile(r"ml\.azure\.com|[^.]+\.api\.azureml\.ms")),
    ("inference", _INFERENCE),
    ("vault", re.compile(r"[^.]+\.vault\.azure\.net")),
    ("blob", re.compile(r"[^.]+\.blob\.core\.windows\.net")),
    ("site", re.compile(r"[^.]+(\.scm)?\.azurewebsites\.net")),
    ("registry", re.compile(r"[^.]+\.azurecr\.io")),
    ("vision", re.compile(r"[^.]+\.cognitiveservices\.azure\.com|[^.]+\.api\.cognitive\.microsoft\.com")),
)
CERTIFICATE_NAMES = (
    "127.0.0.1",
    "localhost",
    "management.azure.com",
    "login.microsoftonline.com",
    "login.windows.net",
    "sts.windows.net",
    "ml.azure.com",
    "*.api.azureml.ms",
    f"*.{LOCATION}.inference.ml.azure.com",
    "*.vault.azure.net",
    "*.blob.core.windows.net",
    "*.azurewebsites.net",
    "*.scm.azurewebsites.net",
    "*.azurecr.io",
    "*.cognitiveservices.azure.com",
    "*.api.cognitive.microsoft.com",
)
"""Names in the certificate that all services use."""
_PATHS: dict[HostKind, tuple[str, ...]] = {
    "manager": ("/subscriptions", "/tenants", "/providers", "/metadata/", "/operations/", "/operationresults/"),
    "ml": (
        "/discovery", "/history/", "/data/", "/modelregistry/", "/mlflow/", "/mferp/", "/registrymanagement/",
        "/operations/", "/operationresults/",
    ),
    "inference": ("/scoring/", "/batch/"),
    "vault": ("/secrets", "/deletedsecrets"),
    "vision": ("/cognitiveservices/",),
}  # fmt: skip


def host_kind(host: str) -> HostKind | None:
    """Return the service of Azure to which a host name belongs; None for any other host."""
    return next((kind for kind, pattern in _KINDS if pattern.fullmatch(host.lower())), None)


def inference_endpoint(host: str) -> str:
    """Return the endpoint of a host name for inference; empty for any other host."""
    found = _INFERENCE.fullmatch(host.lower())
    return found[1] if found else ""


def vision_account(host: str) -> str:
    """Return the subdomain of a Custom Vision host, or its region with ``.api``; empty for other hosts.

    The hosts of a region are shared by all accounts in it.
    """
    if host_kind(host) != "vision":
        return ""
    return re.sub(r"\.cognitive(services\.azure|\.microsoft)\.com$", "", host.lower())


def serves(kind: HostKind, path: str) -> bool:
    """Return whether a service has paths that begin like this one. The sign-in has the paths that no other service has."""
    if kind == "login":
        return not any(path.startswith(paths) for paths in _PATHS.values())
    return path.startswith(_PATHS.get(kind, ()))


@dataclass(frozen=True)
class CloudAddresses:
    """Addresses of the services, without a slash at the end.

    Attributes:
        manager: Address of the resource manager.
        login: Address of the sign-in.
        ml: Address of the services of Azure ML besides the resource manager.
        vault: Address of the key vault.
        ml_resource: Audience of tokens for Azure ML itself.
        vault_resource: Audience of tokens for the vault.
        storage_suffix: What follows ``ACCOUNT.blob.`` in the address of a storage account.
        public: Whether these are the addresses of Azure, which clients reach through the proxy.
    """

    manager: str
    login: str
    ml: str
    vault: str
    ml_resource: str
    vault_resource: str
    storage_suffix: str
    public: bool = False

    @classmethod
    def loopback(cls, url: str) -> CloudAddresses:
        """Return everything at one address of this machine."""
        # The client of a vault trusts a resource that is a parent domain of the vault's host; for 127.0.0.1 that is 0.0.1.
        vault = url.replace("//127.0.0.1", "//0.0.1")
        return cls(url, url, url, url, "https://ml.loopback", vault, "core.loopback")

    @classmethod
    def azure(cls) -> CloudAddresses:
        """Return the host names of the public cloud."""
        return cls(
            manager="https://management.azure.com",
            login="https://login.microsoftonline.com",
            ml=f"https://{LOCATION}.api.azureml.ms",
            vault=f"https://{VAULT}.vault.azure.net",
            ml_resource="https://ml.azure.com",
            vault_resource="https://vault.azure.net",
            storage_suffix="core.windows.net",
            public=True,
        )

    @property
    def manager_resources(self) -> tuple[str, ...]:
        """Return the audiences that tokens for the resource manager may have."""
        return (self.manager, "https://management.core.windows.net") if self.public else (self.manager,)

    def online(self, workspace: str, endpoint: str) -> str:
        """Return the base address of an online endpoint."""
        return self._endpoint(endpoint) if self.public else f"{self.ml}/scoring/{workspace}/{endpoint}"

    def vision(self, subdomain: str, region: str = LOCATION) -> str:
        """Return the base address of a Custom Vision account; one without a subdomain shares that of its region."""
        name = subdomain.lower() or f"{region}.api"
        if not self.public:
            return f"{self.manager}/cognitiveservices/{name}"
        return f"https://{name}.{'cognitiveservices.azure' if subdomain else 'cognitive.microsoft'}.com"

    def batch(self, workspace: str, endpoint: str) -> str:
        """Return the base address of a batch endpoint."""
        return self._endpoint(endpoint) if self.public else f"{self.ml}/batch/{workspace}/{endpoint}"

    @staticmethod
    def _endpoint(name: str) -> str:
        return f"https://{name.lower()}.{LOCATION}.inference.ml.azure.com"
