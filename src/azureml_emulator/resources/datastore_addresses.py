"""Addresses of what is in datastores: of assets, of artifacts of runs, and of outputs of jobs."""

from __future__ import annotations

import re
from typing import Protocol

from azureml_emulator.rest.rest_calls import ServiceRefusalError

_DATASTORE = re.compile(r"azureml://(?:subscriptions/.+/)?datastores/([^/]+)/paths/(.*)")
_JOB = re.compile(r"azureml://jobs/([^/]+)/outputs/([^/]+)(?:/paths/(.*))?")
_RUN = re.compile(r"runs:/([^/]+)/(.*)")
ARTIFACTS = "workspaceartifactstore"


class OutputAddresses(Protocol):
    """Knows the outputs of jobs."""

    def output_address(self, workspace: str, job: str, output: str) -> str:
        """Return the address in a datastore of an output of a job, or of one of its steps.

        Raises:
            ServiceRefusalError: 404, the job or output does not exist.
        """


def datastore_path(uri: str) -> tuple[str, str]:
    """Return datastore and path of an address such as ``azureml://datastores/NAME/paths/PATH``.

    Raises:
        ServiceRefusalError: 400, it is not such an address.
    """
    found = _DATASTORE.fullmatch(uri)
    if found is None:
        raise ServiceRefusalError(400, "UserError", f"{uri!r} is not an address in a datastore")
    return found[1], found[2]


def artifacts(run: str) -> str:
    """Return the folder of a run's logs and artifacts in the artifact store."""
    return f"ExperimentRun/dcid.{run}"


def located(jobs: OutputAddresses, workspace: str, uri: str) -> str:
    """Return the address in a datastore of an output of a job or an artifact of a run; other addresses stay.

    Raises:
        ServiceRefusalError: 404, the job or output does not exist.
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
    """Return the address including the workspace, as the service does."""
    scope = workspace.lstrip("/").replace("/providers/Microsoft.MachineLearningServices", "")
    return f"azureml://{scope.replace('/resourceGroups/', '/resourcegroups/')}/datastores/{store}/paths/{path}"
