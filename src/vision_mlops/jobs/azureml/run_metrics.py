"""Numbers that a job logged with MLflow, read from the tracking server of the workspace."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

from vision_mlops.azure.azure_errors import azure_errors
from vision_mlops.core.errors import AzureError

if TYPE_CHECKING:
    from azure.core.credentials import TokenCredential


def run_metrics(credential: TokenCredential, scope: str, tracking_uri: str, run: str) -> dict[str, float]:
    """Last finite value of each metric of a run.

    Args:
        credential: Sign-in.
        scope: Of the token: that of the resource manager.
        tracking_uri: Of the workspace: ``azureml://HOST/mlflow/v1.0/subscriptions/...``.
        run: Name of the job, which is the id of its run.

    Raises:
        AzureError: the workspace has no tracking server, or it refuses, or has no such run.
    """
    scheme, mark, rest = tracking_uri.partition("://")
    if not mark or scheme not in ("azureml", "https"):
        raise AzureError(
            f"the workspace has no MLflow tracking server ({tracking_uri!r})", "see its page in the portal"
        )
    content = _get(credential, scope, f"https://{rest.rstrip('/')}/api/2.0/mlflow/runs/get", run)
    try:
        entries = content["run"]["data"].get("metrics", [])
        found = {str(entry["key"]): float(entry["value"]) for entry in entries}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        message = f"the tracking server's answer about run {run!r} is not understood: {error!r}"
        raise AzureError(message, "look at the run in Azure ML studio") from error
    return {key: value for key, value in found.items() if math.isfinite(value)}


def _get(credential: TokenCredential, scope: str, url: str, run: str) -> Any:
    from azure.core import PipelineClient
    from azure.core.pipeline.policies import BearerTokenCredentialPolicy, RetryPolicy
    from azure.core.rest import HttpRequest

    with azure_errors(f"metrics of job {run!r}"):
        policies = [RetryPolicy(), BearerTokenCredentialPolicy(credential, scope)]
        http: Any = PipelineClient("", policies=policies)
        answer = http.send_request(HttpRequest("GET", url, params={"run_id": run}))
        answer.raise_for_status()
        return json.loads(answer.text())
