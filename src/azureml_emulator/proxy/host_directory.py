"""Maps a host name of Azure to the port on this machine that responds for it."""

from __future__ import annotations

from collections.abc import Callable

from azureml_emulator.rest.cloud_addresses import VAULT, host_kind


class HostDirectory:
    """The emulated host names.

    Args:
        cloud_port: Port of the services.
        account: Name of the storage account.
        blob_port: Returns the port of the storage account, for a connection that begins now.
        site_port: Returns the port of a web app or its publishing site, by its host name; None if there is none.
        registry_port: Port of the sign-in of container registries; None if there are none.
        has_vision: Returns whether an account of Custom Vision responds at a host name.
    """

    def __init__(
        self,
        cloud_port: int,
        account: str,
        blob_port: Callable[[], int],
        site_port: Callable[[str], int | None],
        registry_port: int | None = None,
        has_vision: Callable[[str], bool] = lambda host: False,
    ) -> None:
        self._cloud_port = cloud_port
        self._account = account
        self._blob_port = blob_port
        self._site_port = site_port
        self._registry_port = registry_port
        self._has_vision = has_vision

    def port_of(self, host: str) -> int | None:
        """Return the port of a host; None for hosts that are not emulated, and for missing accounts and web apps."""
        host = host.lower().rstrip(".")
        kind = host_kind(host)
        if kind == "blob":
            return self._blob_port() if host.partition(".")[0] == self._account else None
        if kind == "site":
            return self._site_port(host)
        if kind == "registry":
            return self._registry_port
        if kind == "vision" and not self._has_vision(host):
            return None
        if kind == "vault" and host.partition(".")[0] != VAULT:
            return None
        return None if kind is None else self._cloud_port
