"""Check the proxy that HTTPS_PROXY names: if it is gone, no request leaves, and errors point to everything else."""

from __future__ import annotations

import os
import socket
from urllib.parse import urlsplit
from urllib.request import getproxies_environment, proxy_bypass

_PORTS = {"http": 80, "https": 443}
_SECONDS = 2.0
_AZURE = "management.azure.com"


def silent_proxy(host: str = _AZURE) -> tuple[str, str] | None:
    """Say what is wrong with the proxy for a host, and what to do; None if it responds, or if there is no proxy.

    Args:
        host: Host that a call could not reach.

    Returns:
        Two texts. They name the proxy and its variable, but no password.
    """
    proxies = getproxies_environment()
    kind = "https" if proxies.get("https") else "all"
    address = proxies.get(kind) or ""
    if not address or proxy_bypass(host):
        return None
    variable = next((name for name in os.environ if name.lower() == f"{kind}_proxy"), f"{kind.upper()}_PROXY")
    hint = f"start it (`mlops azure emulate` is one), or unset {variable} if there is no proxy"
    parts = urlsplit(address if "://" in address else f"http://{address}")
    try:
        place, port = parts.hostname or "", parts.port or _PORTS.get(parts.scheme, 80)
    except ValueError:
        return (
            f"{variable} names a proxy whose port is not a number",
            f"write it as http://HOST:PORT, or unset {variable}",
        )
    try:
        with socket.create_connection((place, port), _SECONDS) as connection:
            if parts.scheme == "http" and not _responds(connection, host):
                hint = f"set {variable} to the address of a proxy, or unset it"
                return f"what listens at {place}:{port}, which {variable} names, is not a proxy", hint
    except OSError:
        return f"the proxy {place}:{port}, which {variable} names, does not respond", hint
    return None


def _responds(connection: socket.socket, host: str) -> bool:
    """Return whether a connection responds like a proxy, even with a refusal. A slow one counts as a proxy."""
    connection.sendall(f"CONNECT {host}:443 HTTP/1.1\r\nHost: {host}:443\r\n\r\n".encode())
    try:
        return connection.recv(5).startswith(b"HTTP")
    except TimeoutError:
        return True
    except ConnectionError:
        return False
