"""Addresses of what lies in datastores: of assets, of artifacts of runs, and of outputs of jobs."""

from __future__ import annotations

import re
from typing import Protocol

from azureml_emulator.rest.rest_calls import ServiceRefusalError

_DATASTORE = re.compile(r"azureml://(?:subscriptions/.+/)?datastores/([^/]+)/paths/(.*)")
_JOB = re.compile(r"azureml://jobs/([^/]+)/outputs/([^/]+)(?:/paths/(.*))?")
_RUN = re.compile(r"runs:/([^/]+)/(.*)")
ARTIFACTS = "workspaceartifactstore"


class OutputAddresses(Protocol):
    """Knows where the outputs of jobs are."""

    def output_address(self, workspace: str, job: str, output: str) -> str:
        """Address in a datastore of an output of a job, or of a step of one.

        Raises:
            ServiceRefusalError: 404, there is no such job or output.
        """


def datastore_path(uri: str) -> tuple[str, str]:
    """Datastore and path of an address such as ``azureml://datastores/NAME/paths/PATH``.

    Raises:
        ServiceRefusalError: 400, it is none.
    """
    found = _DATASTORE.fullmatch(uri)
    if found is None:
        raise ServiceRefusalError(400, "UserError", f"{uri!r} is no address in a datastore")
    return found[1], found[2]


def artifacts(run: str) -> str:
    """Folder of a run's logs and artifacts in the artifact store."""
    return f"ExperimentRun/dcid.{run}"


def located(jobs: OutputAddresses, workspace: str, uri: str) -> str:
    """Address in a datastore of what may be named as an output of a job, or an artifact of a run; others stay.

    Raises:
        ServiceRefusalError: 404, there is no such job or output.
    """
    if found := _RUN.fullmatch(uri):
        return long_uri(workspace, ARTIFACTS, f"{artifacts(found[1])}/{found[2]}")
    found = _JOB.fullmatch(uri)
    if found is None:
        return uri
    job, output, path = found[1], found[2], found[3] or ""
    if output in ("artifacts", "default"):
        return long_uri(workspace, ARTIFACTS, f"{artifacts(job)}/{path}")
    return jobs.output_address(workspace, job, output).rstrip("/") + (f"/{path}" if path else "")


def long_uri(workspace: str, store: str, path: str) -> str:
    """Address with the workspace in it, as the service answers it."""
    scope = workspace.lstrip("/").replace("/providers/Microsoft.MachineLearningServices", "")
    return f"azureml://{scope.replace('/resourceGroups/', '/resourcegroups/')}/datastores/{store}/paths/{path}"
