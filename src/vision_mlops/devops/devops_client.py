"""An organization of Azure DevOps, called through its REST interface: sign-in, versions, and errors on one line."""

from __future__ import annotations

import base64
import functools
import os
import re
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote, urlsplit

import httpx

from vision_mlops.azure.devops_sign_in import service_token
from vision_mlops.azure.rest_client import RestClient, RetryableError, json_of, message_of
from vision_mlops.core.errors import AzureError, ConfigError
from vision_mlops.core.listening import LOOPBACK

Json = dict[str, Any]

PAT = "AZURE_DEVOPS_EXT_PAT"
"""Variable with a personal access token; the Azure DevOps extension of ``az`` reads it, too."""
VERSION, PREVIEW = "7.1", "7.1-preview.1"
"""Versions of released calls, and of calls in preview."""
_TIMEOUT_S = 30.0
_HINTS = {
    403: "ask an administrator of the project for the permission, or to run this command",
    404: "check --organization and --project, and that this sign-in may see them",
    409: "it exists, but this sign-in may not see it: ask its owner for access, or choose another name",
}
_BUSY = frozenset({429, 502, 503, 504})
_ORGANIZATION = re.compile(r"https?://[\w.-]+(:\d+)?(/[\w .-]+)*/?")
_OLDER = re.compile(r"https://([\w-]+)\.visualstudio\.com(/DefaultCollection)?")
_NO_SIGN_IN = (
    f"run `az login` with an account of the organization's directory, or export {PAT} with a personal access token"
)


class DevOpsClient(RestClient):
    """Calls to one organization, for one thread.

    Args:
        organization: Address, such as ``https://dev.azure.com/contoso``.
        authorization: Returns the value of the header ``Authorization``.
        sleep: Waits some seconds between attempts.
        told: Called with a message for each call that has to wait.

    Raises:
        ConfigError: the address cannot be that of an organization.
    """

    service = "Azure DevOps"

    def __init__(
        self,
        organization: str,
        authorization: Callable[[], str],
        sleep: Callable[[float], None] = time.sleep,
        told: Callable[[str], None] = lambda text: None,
    ) -> None:
        super().__init__(organization_url(organization), _TIMEOUT_S, sleep, told)
        self._authorization = authorization
        self._continuation = ""

    @property
    def name(self) -> str:
        """Name of the organization."""
        return self.url.rpartition("/")[2]

    def get(self, path: str, version: str = VERSION, **query: str) -> Json:
        """Send a read and return the response.

        Args:
            path: Below the organization, such as ``_apis/projects``.
            version: Of the interface.
            query: Further parameters; a leading underscore becomes ``$``.

        Raises:
            AzureError: the service refuses, cannot be reached, or nobody is signed in.
        """
        return self._call("GET", f"{self.url}/{path}", version, query, None)

    def find(self, path: str, version: str = VERSION, **query: str) -> Json | None:
        """Send a read and return the response; None if the service responds with 404. Raises AzureError."""
        try:
            return self.get(path, version, **query)
        except AzureError as error:
            if error.status != 404:
                raise
            return None

    def rows(self, path: str, version: str = VERSION, **query: str) -> list[Json]:
        """Return the rows of a list. Raises AzureError."""
        found: list[Json] = self.get(path, version, **query)["value"]
        return found

    def identities(self, text: str) -> list[Json]:
        """Find people and groups by mail address or name. Raises AzureError."""
        query = {"searchFilter": "General", "filterValue": text, "queryMembership": "None"}
        found: list[Json] = self._call("GET", f"{self._host('vssps')}/_apis/identities", VERSION, query, None)["value"]
        return found

    def identity_descriptor(self, subject: str) -> str:
        """Find the descriptor of a subject in permissions; empty if the subject is unknown there. Raises AzureError."""
        query = {"subjectDescriptors": subject}
        rows = self._call("GET", f"{self._host('vssps')}/_apis/identities", VERSION, query, None)["value"]
        return next((str(row["descriptor"]) for row in rows if row), "")

    def service_principals(self) -> list[Json]:
        """List the members of the organization that are service principals. Raises AzureError."""
        found: list[Json] = []
        token = ""
        while True:
            query = {"continuationToken": token} if token else {}
            url = f"{self._host('vssps')}/_apis/graph/serviceprincipals"
            found += self._call("GET", url, PREVIEW, query, None)["value"]
            if not (token := self._continuation):
                return found

    def send(self, method: str, path: str, body: object, version: str = VERSION) -> Json:
        """Send a write and return the response. Raises AzureError."""
        return self._call(method, f"{self.url}/{path}", version, {}, body)

    def save(self, path: str, id: str | int, body: object, version: str = VERSION, *, method: str = "PUT") -> Json:
        """Update what has an id, or create what has none yet, and return the response. Raises AzureError."""
        return self.send(method, f"{path}/{id}", body, version) if id else self.send("POST", path, body, version)

    def send_entitlement(self, body: object) -> Json:
        """Add a member to the organization; returns the response. Raises AzureError."""
        return self._call("POST", f"{self._host('vsaex')}/_apis/serviceprincipalentitlements", PREVIEW, {}, body)

    def _host(self, service: str) -> str:
        """Return the address of the service for people or licenses, which has a host of its own in the cloud."""
        if self.url.startswith("https://dev.azure.com/"):
            return self.url.replace("https://", f"https://{service}.", 1)
        return self.url

    def _call(self, method: str, url: str, version: str, query: Mapping[str, str], body: object) -> Json:
        params = {re.sub("^_", "$", key): value for key, value in query.items()} | {"api-version": version}
        sent = {} if body is None else {"json": body}

        def once() -> Json:
            headers = {"Authorization": self._authorization()}
            return self._understood(method, url, self._exchange(method, url, params=params, headers=headers, **sent))

        return self._repeated(once, repeatable=method == "GET")

    def _understood(self, method: str, url: str, response: httpx.Response) -> Json:
        status, kind = response.status_code, response.headers.get("Content-Type", "")
        if status in (301, 302, 401) or (status == 203 and "json" not in kind):
            message = f"{self.url} does not accept this sign-in (HTTP {status})"
            raise AzureError(message, _NO_SIGN_IN, 401)
        if status in _BUSY or (status == 500 and method == "GET"):
            busy = RetryableError(f"Azure DevOps is busy (HTTP {status})", "wait some minutes, then try again", status)
            raise busy.with_wait(response, was_refused=status in _BUSY)
        content = json_of(response) if "json" in kind else None
        if status >= 400:
            raise self._refused(method, url, status, content)
        self._continuation = response.headers.get("X-MS-ContinuationToken", "")
        if not response.content:
            return {}
        if not isinstance(content, dict):
            message = f"{method} {_short(url)}: the response is not from Azure DevOps"
            raise AzureError(message, "check the address of the organization")
        return content

    def _refused(self, method: str, url: str, status: int, content: Any) -> AzureError:
        if not isinstance(content, dict) or "message" not in content:
            if status == 404:
                return AzureError(f"{self.url} is not an organization", "check --organization", 404)
            return AzureError(f"{method} {_short(url)}: HTTP {status}", "check the address of the organization", status)
        code = str(content.get("typeKey") or "")
        text = f"{message_of(content)} (HTTP {status} {code})".replace(" )", ")")
        return AzureError(text, _HINTS.get(status, "change what the message names"), status)


def organization_url(text: str) -> str:
    """Return the address of an organization without a slash at its end. Raises ConfigError."""
    found = text.strip().rstrip("/")
    if older := _OLDER.fullmatch(found):
        return f"https://dev.azure.com/{older[1]}"
    host, path = urlsplit(found).hostname or "", urlsplit(found).path.strip("/")
    if not _ORGANIZATION.fullmatch(found) or not path or (host == "dev.azure.com" and "/" in path):
        raise ConfigError(
            f"{text!r} is not the address of an organization of Azure DevOps",
            "write it like https://dev.azure.com/contoso",
        )
    if urlsplit(found).scheme != "https" and host not in LOOPBACK:
        raise ConfigError(f"{text!r}: the token would be sent unencrypted", "write the address with https://")
    return found


def organization_authorization(environ: Mapping[str, str] = os.environ) -> Callable[[], str]:
    """Return what returns the header of a sign-in: by a personal access token if one is set, else as a pipeline or ``az``.

    The function raises AzureError if nobody is signed in.
    """
    if secret := environ.get(PAT, "").strip():
        basic = f"Basic {base64.b64encode(f':{secret}'.encode()).decode()}"
        return lambda: basic
    # One token for the whole run, which takes less time than the token is valid.
    return functools.cache(lambda: f"Bearer {service_token('Azure DevOps', environ=environ)}")


def in_path(name: str) -> str:
    """Quote a name as a part of a path."""
    return quote(name, safe="")


def _short(url: str) -> str:
    return urlsplit(url).path
