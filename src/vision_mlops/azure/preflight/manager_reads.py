"""Questions to the resource manager that no installed package of Azure's asks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vision_mlops.azure.azure_errors import azure_errors
from vision_mlops.azure.clients import manager_calls
from vision_mlops.config.azure_settings import AzureSettings

if TYPE_CHECKING:
    from azure.core.credentials import TokenCredential


class ManagerReads:
    """Calls of the resource manager; all raise AzureError.

    Args:
        settings: Which cloud, subscription and group.
        credential: Who asks.
    """

    def __init__(self, settings: AzureSettings, credential: TokenCredential | None = None) -> None:
        self._manager = settings.cloud.resource_manager
        self._client = manager_calls(settings, credential)
        self.subscription = f"/subscriptions/{settings.subscription_id}"
        self.group = f"{self.subscription}/resourceGroups/{settings.resource_group}"

    def get(self, what: str, path: str, version: str, **query: str) -> dict[str, Any]:
        """The answer to a question; ``what`` begins the message of an error."""
        return self._call("GET", what, f"{self._manager}{path}", {"api-version": version, **query})

    def ask(self, what: str, path: str, version: str, body: dict[str, Any]) -> dict[str, Any]:
        """The answer to a question that has a body, and changes nothing."""
        return self._call("POST", what, f"{self._manager}{path}", {"api-version": version}, body)

    def list(self, what: str, path: str, version: str, **query: str) -> list[dict[str, Any]]:
        """All items of a list, page by page."""
        page = self.get(what, path, version, **query)
        found = list(page.get("value") or [])
        while link := page.get("nextLink"):
            page = self._call("GET", what, str(link), {})
            found += page.get("value") or []
        return found

    def close(self) -> None:
        """End its connections."""
        self._client.close()

    def _call(
        self, method: str, what: str, url: str, query: dict[str, str], body: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        from azure.core.rest import HttpRequest

        with azure_errors(what):
            answer = self._client.send_request(HttpRequest(method, url, params=query, json=body))
            answer.raise_for_status()
            found = answer.json()
        return found if isinstance(found, dict) else {}
