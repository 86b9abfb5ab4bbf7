"""Reads the steps and logs of a job from the run history of the workspace.

The SDK has no public call for the addresses of a job's logs: its ``jobs.stream`` prints to standard output, at its own pace
and in its own format, and gives up at the first lost connection. So this module alone uses the SDK's internal client.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from vision_mlops.azure.azure_errors import azure_errors
from vision_mlops.azure.clients import quiet
from vision_mlops.core.errors import AzureError
from vision_mlops.jobs.azureml.azure_records import StepRecord, text_of
from vision_mlops.storage.blob_service import API_VERSION
from vision_mlops.storage.sign_in import SCOPE

if TYPE_CHECKING:
    from azure.ai.ml import MLClient
    from azure.core.credentials import TokenCredential


# The output of the first process of a run; the others of a distributed run print the same.
_SHOWN = re.compile(
    r"(user_logs/std_log\D*0*\.txt|azureml-logs/70_driver_log\D*0*\.txt|logs/azureml/executionlogs\.txt)"
)
# The storage account accepts no keys, and so no signatures that the service made with them.
_NO_KEYS = "KeyBasedAuthenticationNotPermitted"


@dataclass
class LogReader:
    """A log file that is read piece by piece: ``read`` bytes were read, ``rest`` is an incomplete line."""

    read: int = 0
    rest: bytes = b""

    def lines(self, content: bytes, *, final: bool) -> list[str]:
        """Return the complete lines of what is new and, at the end of the run, the last incomplete one."""
        self.read += len(content)
        parts = (self.rest + content).split(b"\n")
        self.rest = parts.pop()
        if final and self.rest:
            parts.append(self.rest)
            self.rest = b""
        return [part.decode("utf-8", "replace").rstrip("\r") for part in parts]


class RunHistory:
    """Reads the run history of a workspace."""

    def __init__(self, client: MLClient) -> None:
        self._client = client
        self._logs: dict[tuple[str, str], LogReader] = {}

    def steps(self, job: str) -> list[StepRecord]:
        """List the steps of a pipeline job, or the trials of a sweep, in the order in which they were created.

        A nested pipeline counts as one step.

        Raises:
            AzureError: the job does not exist, or the service refuses.
        """
        with azure_errors(f"steps of job {job!r}"), quiet():
            children = [child for child in self._client.jobs.list(parent_job_name=job) if child is not None]
        found = [
            StepRecord(str(child.display_name or child.name), str(child.name), text_of(child.status))
            for child in children
        ]
        created = {str(child.name): str(getattr(child.creation_context, "created_at", "") or "") for child in children}
        return sorted(found, key=lambda step: (created[step.name], step.step))

    def reason(self, run: str) -> str:
        """Say why a run failed, in the words of the service; empty if it does not say.

        Raises:
            AzureError: the service refuses.
        """
        with azure_errors(f"run {run!r}"), quiet():
            operations: Any = self._client.jobs._runs_operations
            error = getattr(operations.get_run_details(run).error, "error", None)
        return str(getattr(error, "message", None) or "")

    def new_lines(self, run: str, *, final: bool) -> list[str]:
        """Return the lines that were added to a run's log since the last call.

        Args:
            run: Name of a job or of a step's run.
            final: Whether the run has ended, so that its last line may lack a line end.

        Raises:
            AzureError: the service refuses.
        """
        with azure_errors(f"log of {run!r}"), quiet():
            operations: Any = self._client.jobs._runs_operations
            files = operations.get_run_details(run).log_files or {}
        lines: list[str] = []
        for name in sorted(name for name in files if _SHOWN.fullmatch(name)):
            log = self._logs.setdefault((run, name), LogReader())
            lines += log.lines(self._content(files[name], log.read), final=final)
        return lines

    def _content(self, url: str, start: int) -> bytes:
        """Read a file from an offset on; return nothing if there is no more, or the file does not exist yet."""
        from azure.core.rest import HttpRequest

        with azure_errors("log"):
            headers = {"Range": f"bytes={start}-", "x-ms-version": API_VERSION}  # which a token requires
            response = self._http.send_request(HttpRequest("GET", url, headers=headers))
            if response.headers.get("x-ms-error-code") == _NO_KEYS and url.startswith("https://"):
                headers["Authorization"] = f"Bearer {self._client._credential.get_token(SCOPE).token}"
                response = self._http.send_request(HttpRequest("GET", url.partition("?")[0], headers=headers))
            if response.status_code in (404, 416):
                return b""
            response.raise_for_status()
            content = response.read()
        # A server that does not support ranges sends everything.
        return bytes(content if response.status_code == 206 else content[start:])

    @cached_property
    def _http(self) -> Any:
        from azure.core import PipelineClient
        from azure.core.pipeline.policies import RetryPolicy

        # The address contains its own access right, so no token is sent unless storage asks for one.
        return PipelineClient("", policies=[RetryPolicy()])


@dataclass(frozen=True)
class TrackedRun:
    """What the tracking server of a workspace knows about a run.

    Attributes:
        metrics: The last value of each metric, if it is finite.
        tags: Its tags in MLflow.
        seconds: How long it ran; None while it runs, or if the server does not say.
    """

    metrics: Mapping[str, float]
    tags: Mapping[str, str]
    seconds: float | None


def tracked_run(credential: TokenCredential, scope: str, tracking_uri: str, run: str) -> TrackedRun:
    """Ask MLflow about a run.

    Args:
        credential: Sign-in.
        scope: Scope of the token: that of the resource manager.
        tracking_uri: That of the workspace: ``azureml://HOST/mlflow/v1.0/subscriptions/...``.
        run: Name of the job, which is the id of its run.

    Raises:
        AzureError: the workspace has no tracking server, the server refuses, or the run does not exist.
    """
    scheme, mark, rest = tracking_uri.partition("://")
    if not mark or scheme not in ("azureml", "https"):
        raise AzureError(
            f"the workspace has no MLflow tracking server ({tracking_uri!r})", "see its page in the portal"
        )
    from azure.core import PipelineClient
    from azure.core.pipeline.policies import BearerTokenCredentialPolicy, RetryPolicy
    from azure.core.rest import HttpRequest

    url = f"https://{rest.rstrip('/')}/api/2.0/mlflow/runs/get"
    with azure_errors(f"metrics of job {run!r}"):
        http: Any = PipelineClient("", policies=[RetryPolicy(), BearerTokenCredentialPolicy(credential, scope)])
        response = http.send_request(HttpRequest("GET", url, params={"run_id": run}))
        response.raise_for_status()
        content = json.loads(response.text())
    try:
        data, information = content["run"]["data"], content["run"].get("info", {})
        metrics = {str(entry["key"]): float(entry["value"]) for entry in data.get("metrics", [])}
        tags = {str(entry["key"]): str(entry["value"]) for entry in data.get("tags", [])}
        begun, ended = (float(information.get(name) or 0) for name in ("start_time", "end_time"))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        message = f"unexpected response of the tracking server about run {run!r}: {error!r}"
        raise AzureError(message, "look at the run in Azure ML studio") from error
    finite = {key: value for key, value in metrics.items() if math.isfinite(value)}
    return TrackedRun(finite, tags, (ended - begun) / 1000 if 0 < begun <= ended else None)
