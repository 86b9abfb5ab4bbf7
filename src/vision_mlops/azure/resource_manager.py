"""Calls to the resource manager of Azure that no installed package of Azure makes."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from vision_mlops.azure.azure_errors import azure_errors
from vision_mlops.azure.clients import manager_calls
from vision_mlops.config.azure_settings import AzureSettings

if TYPE_CHECKING:
    from azure.core import PipelineClient
    from azure.core.credentials import TokenCredential
    from azure.core.rest import HttpRequest, HttpResponse


class ResourceManager:
    """The resource manager. All calls raise AzureError.

    Args:
        settings: Cloud, subscription and resource group.
        credential: Sign-in; that of this machine if not given.
    """

    def __init__(self, settings: AzureSettings, credential: TokenCredential | None = None) -> None:
        self._settings, self._credential = settings, credential
        self.subscription = f"/subscriptions/{settings.subscription_id}"
        self.group = f"{self.subscription}/resourceGroups/{settings.resource_group}"
        machine_learning = f"{self.group}/providers/Microsoft.MachineLearningServices"
        self.workspace = f"{machine_learning}/workspaces/{settings.workspace_name}"

    @cached_property
    def _client(self) -> PipelineClient[HttpRequest, HttpResponse]:
        return manager_calls(self._settings, self._credential)

    def get(self, what: str, path: str, version: str, **query: str) -> dict[str, Any]:
        """Return the response to a GET; ``what`` begins the message of an error."""
        return self.call("GET", what, path, version, query=query)

    def find(self, what: str, path: str, version: str, *, hint: str = "", **query: str) -> dict[str, Any] | None:
        """Return the response to a GET; None if the resource does not exist."""
        return self.call("GET", what, path, version, query=query, hint=hint, accepted=(404,)) or None

    def list(self, what: str, path: str, version: str, **query: str) -> list[dict[str, Any]]:
        """Return all items of a list, which comes page by page."""
        page = self.get(what, path, version, **query)
        found = list(page.get("value") or [])
        while link := page.get("nextLink"):
            page = self.call("GET", what, str(link))
            found += page.get("value") or []
        return found

    def call(
        self,
        method: str,
        what: str,
        path: str,
        version: str = "",
        body: object = None,
        *,
        query: Mapping[str, str] | None = None,
        hint: str = "",
        accepted: tuple[int, ...] = (),
    ) -> dict[str, Any]:
        """Make a call and return its response.

        Args:
            method: HTTP method.
            what: Begins the message of an error.
            path: Path of the resource, or a whole address that the resource manager gave, which needs no version.
            version: Version of the interface.
            body: Sent as JSON.
            query: Further parameters; a filter is named ``filter``.
            hint: What to do, if the kind of error has no better hint.
            accepted: Statuses of refusals that are not errors; the result is empty then. A resource group or subscription
                that does not exist is always an error.
        """
        from azure.core.rest import HttpRequest

        url = path if "://" in path else f"{self._settings.cloud.resource_manager}{path}"
        params = {"$filter" if key == "filter" else key: value for key, value in (query or {}).items()}
        params |= {"api-version": version} if version else {}
        with azure_errors(what, hint):
            response = self._client.send_request(HttpRequest(method, url, params=params, json=body))
            text = response.text()
            # A mistake in the settings, whatever was asked for.
            misplaced = "ResourceGroupNotFound" in text or "SubscriptionNotFound" in text
            if response.status_code in accepted and not misplaced:
                return {}
            response.raise_for_status()
            found = response.json() if text else {}
        return found if isinstance(found, dict) else {}

    def close(self) -> None:
        """Close all connections."""
        if "_client" in self.__dict__:
            self._client.close()
