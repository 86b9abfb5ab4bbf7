"""Start a pipeline of Azure DevOps, or a workflow of GitHub, through its REST interface.

A job that has finished on Azure ML starts the next pipeline itself, so no agent waits for it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlsplit, urlunsplit

import httpx

from vision_mlops.azure.rest_client import RestClient, RetryableError, json_of, message_of
from vision_mlops.core.errors import AzureError, ConfigError
from vision_mlops.core.listening import LOOPBACK
from vision_mlops.core.text import nearest

Service = Literal["Azure DevOps", "GitHub"]
EVENT = "model-registered"
"""Type of the event that starts a workflow of GitHub: ``on: repository_dispatch: types: [model-registered]``."""
_VERSION = "7.1"
_PIPELINE_RUNS = re.compile(r"/.*/_apis/pipelines/\d+/runs/?")
_DISPATCHES = re.compile(r"(/api/v3)?/repos/[\w.-]+/[\w.-]+/dispatches/?")
_SIGN_IN = {
    "Azure DevOps": "add the identity of the job or the build to the organization, with the right to queue builds",
    "GitHub": "give a token that may write the contents of the repository",
}
_TIMEOUT = httpx.Timeout(60.0, connect=10.0)


@dataclass(frozen=True, slots=True)
class RunAddress:
    """What starts a run: ``_apis/pipelines/ID/runs`` of Azure DevOps, or ``repos/OWNER/NAME/dispatches`` of GitHub."""

    url: str
    service: Service


def checked_address(text: str, what: str) -> str:
    """Check an address that a token is sent to: https, or a service of this machine. Raises ConfigError."""
    try:
        parts = urlsplit(text)
        usable = parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in LOOPBACK)
        usable = usable and bool(parts.hostname) and not (parts.username or parts.password)
        _ = parts.port  # raises ValueError where it is not a number
    except ValueError:
        usable = False
    if not usable or not text.isprintable() or " " in text:
        raise ConfigError(f"{what}: {text!r} is not an https address", "write it as https://HOST/PATH")
    return text


def run_address(text: str) -> RunAddress:
    """Parse an address. Raises ConfigError if it is neither of the two."""
    parts = urlsplit(checked_address(text.replace(" ", "%20"), "the address of the next run"))
    bare = urlunsplit((parts.scheme, parts.netloc, parts.path.rstrip("/"), "", ""))
    if _PIPELINE_RUNS.fullmatch(parts.path):
        return RunAddress(f"{bare}?api-version={_VERSION}", "Azure DevOps")
    if _DISPATCHES.fullmatch(parts.path):
        return RunAddress(bare, "GitHub")
    raise ConfigError(
        f"the address of the next run: {text!r} is not of a pipeline or workflow",
        "write https://dev.azure.com/ORGANIZATION/PROJECT/_apis/pipelines/ID/runs, or"
        " https://api.github.com/repos/OWNER/NAME/dispatches",
    )


def start_run(address: RunAddress, parameters: Mapping[str, str], token: str) -> str:
    """Start a run.

    Args:
        address: Of the pipeline, or of the repository whose workflow waits for the event ``model-registered``.
        parameters: Of the pipeline by name; the payload of the event.
        token: Token of the service.

    Returns:
        What was started, in words: the address of the run, if the service reports it.

    Raises:
        AzureError: the service refuses, or cannot be reached.
    """
    if address.service == "GitHub":
        body: dict[str, Any] = {"event_type": EVENT, "client_payload": dict(parameters)}
    else:
        body = {"templateParameters": dict(parameters)}
    answer = _call("POST", address, token, f"starting the next run on {address.service}", body)
    link = answer.get("_links", {}).get("web", {}).get("href") if isinstance(answer.get("_links"), dict) else ""
    return f"run {answer['id']}{f' at {link}' if link else ''}" if answer.get("id") else f"the workflows for {EVENT}"


def named_pipeline(project: str, name: str, token: str) -> RunAddress:
    """Find the address that starts a pipeline of a project of Azure DevOps.

    Args:
        project: Address of the project, such as ``https://dev.azure.com/ORGANIZATION/PROJECT``.
        name: Of the pipeline, or its number.
        token: Of Azure DevOps.

    Raises:
        ConfigError: the address is malformed.
        AzureError: no pipeline has this name, or the service refuses.
    """
    base = checked_address(project.replace(" ", "%20"), "the project").rstrip("/")
    if name.isdecimal():
        return run_address(f"{base}/_apis/pipelines/{name}/runs")
    address = RunAddress(f"{base}/_apis/pipelines?api-version={_VERSION}", "Azure DevOps")
    answer = _call("GET", address, token, f"pipeline {name!r}")
    found = {str(each.get("name")): each.get("id") for each in answer.get("value", []) if isinstance(each, dict)}
    if name not in found:
        raise AzureError(
            f"the project has no pipeline {name!r}", nearest(name, found) if found else "create it first", 404
        )
    return run_address(f"{base}/_apis/pipelines/{found[name]}/runs")


def _call(
    method: str, address: RunAddress, token: str, what: str, body: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return the JSON object of a response; empty if there is none. Raises AzureError."""
    client = _RunClient(address, token)
    try:
        return client.call(method, body)
    except AzureError as error:
        raise AzureError(f"{what}: {error.message}", error.hint, error.status) from error
    finally:
        client.close()


class _RunClient(RestClient):
    """A client of one address of a service. A call that may have started a run is not sent again."""

    def __init__(self, address: RunAddress, token: str) -> None:
        super().__init__(address.url, _TIMEOUT)
        self.service, self._token = address.service, token

    def call(self, method: str, body: Mapping[str, Any] | None) -> dict[str, Any]:
        """Send a call and return the JSON object of the response. Raises AzureError."""
        return self._repeated(lambda: self._once(method, body), repeatable=False)

    def _once(self, method: str, body: Mapping[str, Any] | None) -> dict[str, Any]:
        response = self._exchange(method, self.url, json=body, headers={"Authorization": f"Bearer {self._token}"})
        status, content = response.status_code, json_of(response)
        if status in (429, 503):
            busy = RetryableError(f"{self.service} is busy (HTTP {status})", "try again in a minute", status)
            raise busy.with_wait(response, was_refused=True)
        if status >= 300 or status == 203:
            # Azure DevOps responds with a page to sign in on, with status 203 or 302, if it does not accept the token.
            signed_out = status in (203, 302)
            reason = message_of(content) or ("it asks for a sign-in" if signed_out else response.reason_phrase)
            raise AzureError(f"{reason} (HTTP {status})", self._hint(401 if signed_out else status), status)
        if response.content and content is None:
            raise AzureError(f"the response of {urlsplit(self.url).netloc} is not JSON", "check the address")
        return content if isinstance(content, dict) else {"value": content}

    def _hint(self, status: int) -> str:
        if status in (401, 403):
            return _SIGN_IN[self.service]
        if status == 404:
            return "check the address, and who may read it"
        return "try again in a minute" if status >= 500 else ""
