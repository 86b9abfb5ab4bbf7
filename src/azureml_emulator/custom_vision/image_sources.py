"""Images that a caller gives by their address: downloaded from this machine, or from the emulator's own hosts."""

from __future__ import annotations

import http.client
import ssl
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.error import URLError
from urllib.parse import urlsplit

from azureml_emulator.custom_vision.image_checks import ImageProblemError

_HERE = ("127.0.0.1", "localhost")
_SECONDS = 20


class ImageSources:
    """Downloads images.

    Args:
        network: Variables that lead to the emulator's hosts, of which ``HTTPS_PROXY`` is used; may be empty, and then only
            this machine is contacted.
        authority: Additional certificate authority to trust.
    """

    def __init__(self, network: Callable[[], Mapping[str, str]], authority: Path) -> None:
        self._network = network
        self._authority = authority

    def fetch(self, url: str, most: int) -> bytes:
        """Return the bytes at an address.

        Args:
            url: The address.
            most: Maximum number of bytes to read; one more is read if there are more.

        Raises:
            ImageProblemError: nothing can be downloaded from there.
        """
        try:
            parts = urlsplit(url)
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise ImageProblemError("ErrorSource", f"{url!r} is not an address of the form https://HOST/PATH.")
            with self._opener(parts.hostname).open(url, timeout=_SECONDS) as answer:
                found: bytes = answer.read(most + 1)
        except (URLError, OSError, ValueError, http.client.HTTPException) as error:
            raise ImageProblemError("ErrorSource", f"{url!r} cannot be read: {error}.") from error
        return found

    def _opener(self, host: str) -> urllib.request.OpenerDirector:
        proxy = "" if host in _HERE else self._network().get("HTTPS_PROXY", "")
        if not proxy and host not in _HERE:  # nothing leaves the machine
            raise ImageProblemError("ErrorSource", f"The host {host} is not emulated.")
        context = ssl.create_default_context(cafile=str(self._authority))
        return urllib.request.build_opener(
            urllib.request.ProxyHandler({"http": proxy, "https": proxy} if proxy else {}),
            urllib.request.HTTPSHandler(context=context),
        )
