"""Starting a pipeline of Azure DevOps, or a workflow of GitHub, by its REST interface.

A job that has finished on Azure ML starts the next pipeline itself, so no agent waits for it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit, urlunsplit

from vision_mlops.core.errors import AzureError, ConfigError
from vision_mlops.core.text import nearest
from vision_mlops.devops.http_calls import call, checked_address

Service = Literal["Azure DevOps", "GitHub"]
EVENT = "model-registered"
"""Type of the event that a workflow of GitHub waits for: ``on: repository_dispatch: types: [model-registered]``."""
_VERSION = "7.1"
_PIPELINE_RUNS = re.compile(r"/.*/_apis/pipelines/\d+/runs/?")
_DISPATCHES = re.compile(r"(/api/v3)?/repos/[\w.-]+/[\w.-]+/dispatches/?")
_SIGN_IN = {
    "Azure DevOps": "add the identity of the job or the build to the organization, with the right to queue builds",
    "GitHub": "give a token that may write the contents of the repository",
}


@dataclass(frozen=True, slots=True)
class RunAddress:
    """Where a run is started: ``_apis/pipelines/ID/runs`` of Azure DevOps, ``repos/OWNER/NAME/dispatches`` of GitHub."""

    url: str
    service: Service


def run_address(text: str) -> RunAddress:
    """Read an address. Raises ConfigError where it is neither of the two."""
    parts = urlsplit(checked_address(text.replace(" ", "%20"), "the address of the next run"))
    bare = urlunsplit((parts.scheme, parts.netloc, parts.path.rstrip("/"), "", ""))
    if _PIPELINE_RUNS.fullmatch(parts.path):
        return RunAddress(f"{bare}?api-version={_VERSION}", "Azure DevOps")
    if _DISPATCHES.fullmatch(parts.path):
        return RunAddress(bare, "GitHub")
    raise ConfigError(
        f"the address of the next run: {text!r} starts nothing that is known",
        "write https://dev.azure.com/ORGANIZATION/PROJECT/_apis/pipelines/ID/runs, or"
        " https://api.github.com/repos/OWNER/NAME/dispatches",
    )


def start_run(address: RunAddress, parameters: Mapping[str, str], token: str) -> str:
    """Start a run.

    Args:
        address: Of the pipeline, or of the repository whose workflow waits for the event ``model-registered``.
        parameters: Of the pipeline by name; the payload of the event.
        token: Of the service.

    Returns:
        What was started, in words: the address of the run, where the service tells it.

    Raises:
        AzureError: the service refuses, or is not reached.
    """
    github = address.service == "GitHub"
    body = (
        {"event_type": EVENT, "client_payload": dict(parameters)}
        if github
        else {"templateParameters": dict(parameters)}
    )
    hints = {
        401: _SIGN_IN[address.service],
        403: _SIGN_IN[address.service],
        404: "check the address, and who may read it",
    }
    answer = call("POST", address.url, token, body, what=f"starting the next run on {address.service}", hints=hints)
    link = answer.get("_links", {}).get("web", {}).get("href") if isinstance(answer.get("_links"), dict) else ""
    return f"run {answer['id']}{f' at {link}' if link else ''}" if answer.get("id") else f"the workflows for {EVENT}"


def named_pipeline(project: str, name: str, token: str) -> RunAddress:
    """The address that starts a pipeline of a project of Azure DevOps.

    Args:
        project: Address of the project, such as ``https://dev.azure.com/ORGANIZATION/PROJECT``.
        name: Of the pipeline, or its number.
        token: Of Azure DevOps.

    Raises:
        ConfigError: the address cannot be right.
        AzureError: there is no pipeline of the name, or the service refuses.
    """
    base = checked_address(project.replace(" ", "%20"), "the project").rstrip("/")
    if name.isdecimal():
        return run_address(f"{base}/_apis/pipelines/{name}/runs")
    what, hints = f"pipeline {name!r}", {401: _SIGN_IN["Azure DevOps"], 404: "check the organization and the project"}
    answer = call("GET", f"{base}/_apis/pipelines?api-version={_VERSION}", token, what=what, hints=hints)
    found = {str(each.get("name")): each.get("id") for each in answer.get("value", []) if isinstance(each, dict)}
    if name not in found:
        raise AzureError(
            f"the project has no pipeline {name!r}", nearest(name, found) if found else "make it first", 404
        )
    return run_address(f"{base}/_apis/pipelines/{found[name]}/runs")
