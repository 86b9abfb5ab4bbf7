"""Publishes a zip: sends it to the publishing site of a slot, which builds it, and waits for the end."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from vision_mlops.azure.azure_errors import azure_errors
from vision_mlops.azure.clients import publishing_client
from vision_mlops.azure.retries import retry_while_busy
from vision_mlops.config.azure_settings import AzureSettings
from vision_mlops.core.errors import DeploymentError
from vision_mlops.endpoints.contract import Say
from vision_mlops.endpoints.polling import polls

if TYPE_CHECKING:
    from azure.core.rest import HttpRequest

T = TypeVar("T")

FAILED, SUCCESS = 3, 4
"""States of a deployment on the publishing site."""
_PATIENCE_SECONDS = 60.0
_UPLOAD_SECONDS = 600
_LOG_LINES = 30


class Publishing:
    """The publishing site of one slot.

    Args:
        settings: Cloud.
        host: Host of the publishing site.
        say: Gets progress messages.
    """

    def __init__(self, settings: AzureSettings, host: str, say: Say) -> None:
        self._host = host
        self._url = f"https://{host}"
        self._say = say
        self._client = publishing_client(settings, host)

    def publish(self, package: bytes, seconds: float) -> None:
        """Send a zip, and wait until it is built.

        Raises:
            AzureError: it is refused, or the site cannot be reached.
            DeploymentError: it cannot be built; the message ends with the log.
        """
        with azure_errors(
            f"publishing to {self._host}", "publishing needs the role Website Contributor on the web app"
        ):
            from azure.core.rest import HttpRequest

            request = HttpRequest(
                "POST",
                f"{self._url}/api/publish",
                params={"type": "zip", "async": "true", "restart": "true"},
                headers={"Content-Type": "application/zip"},
                content=package,
            )
            deadline = time.monotonic() + seconds
            place = self._sent(request, deadline)
            for found in self._polls(lambda: self._get(place), deadline):
                if found.get("status") == SUCCESS:
                    return
                if found.get("status") == FAILED:
                    raise DeploymentError(
                        f"the zip cannot be built on {self._host}{self._log(str(found.get('id')))}",
                        "fix what the log names; requirements.txt of the zip is installed there with pip",
                    )

    def _sent(self, request: HttpRequest, deadline: float) -> str:
        """Send the zip, after any other deployment in progress has ended; returns the address that reports the progress."""
        for place in self._polls(lambda: self._send(request), deadline):
            if place:
                return place
            self._say(f"{self._host}: another deployment is in progress; waiting for its end")
        raise AssertionError("the polls end with an error")

    def _polls(self, call: Callable[[], T], deadline: float) -> Iterator[T]:
        """Yield the result of a call, again and again. Raises DeploymentError once the time is up."""
        for _ in polls(deadline - time.monotonic(), 0.5):
            yield retry_while_busy(call, self._say, seconds=_PATIENCE_SECONDS)
        raise DeploymentError(
            f"the zip was not built in time on {self._host}", "run the same command again, with a longer --timeout"
        )

    def _send(self, request: HttpRequest) -> str:
        response = self._client.send_request(request, read_timeout=_UPLOAD_SECONDS)
        if response.status_code == 409:
            return ""
        response.raise_for_status()
        place = str(response.headers.get("Location") or "")
        # The token is sent nowhere else.
        return place if place.startswith(f"{self._url}/") else f"{self._url}/api/deployments/latest"

    def _get(self, url: str) -> Any:
        from azure.core.rest import HttpRequest

        response = self._client.send_request(HttpRequest("GET", url))
        response.raise_for_status()
        return response.json()

    def _log(self, id_: str) -> str:
        """Return the end of the log of a deployment, indented for a message."""
        lines = [str(item.get("message", "")) for item in self._get(f"{self._url}/api/deployments/{id_}/log")]
        texts = [text for line in lines for text in line.splitlines()]
        return "".join(f"\n  | {text}" for text in texts[-_LOG_LINES:])
