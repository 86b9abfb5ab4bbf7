"""What becomes of an online endpoint or deployment that could not be made: cleaned up, and told with its last log lines."""

from __future__ import annotations

from vision_mlops.core.errors import AzureError, MlopsError
from vision_mlops.endpoints.azureml import azureml_workspace
from vision_mlops.endpoints.azureml.long_running import is_refusal
from vision_mlops.endpoints.azureml.online_calls import OnlineCalls
from vision_mlops.endpoints.contract import DeploymentRequest, EndpointStatus, Say


def endpoint_failed(calls: OnlineCalls, error: AzureError, name: str, target: str, say: Say) -> AzureError:
    """What to raise for an endpoint that could not be made; it is removed where it is there as failed."""
    left = ""
    try:
        found = calls.find(name)
        if found is not None and azureml_workspace.state_of(found) is EndpointStatus.FAILED:
            calls.remove(name, say)
    except MlopsError as other:
        left = f"\n  it may still be there ({other.message}); later: mlops endpoint delete {name} --on {target}"
    return AzureError(f"{error.message}{left}", error.hint, error.status)


def deployment_failed(
    calls: OnlineCalls,
    error: AzureError,
    request: DeploymentRequest,
    target: str,
    say: Say,
    *,
    kept: bool,
    new_endpoint: bool,
) -> AzureError:
    """What to raise for a deployment that could not be made, after it is cleaned up.

    Args:
        calls: Of the target.
        error: Why.
        request: What was asked for.
        target: Name of the target.
        say: Told about faults.
        kept: It was there before, so that it stays; its endpoint gets to know the reason.
        new_endpoint: The endpoint was made for it, so that it goes too.
    """
    name, endpoint = request.deployment, request.endpoint
    # What was refused was never begun: a deployment that is there all the same is somebody else's, made just now.
    begun = not is_refusal(error)
    tail = _tail(calls, endpoint, name) if begun else ""
    left = ""
    try:
        if kept:
            _keep_problem(calls, endpoint, name, error.message)
        else:
            _remove_made(calls, request, begun, new_endpoint, say)
    except MlopsError as other:
        delete = f"mlops endpoint delete {endpoint} --deployment {name} --on {target}"
        left = f"\n  it is still there ({other.message}); later: {delete}"
    return AzureError(f"{error.message}{left}{tail}", error.hint, error.status)


def _tail(calls: OnlineCalls, endpoint: str, deployment: str) -> str:
    """The last lines of a log, for a message; empty where there is none, as nothing was made."""
    try:
        lines = calls.last_words(endpoint, deployment)
    except AzureError as error:
        return "" if error.status == 404 else f"\n  {error.message}"
    return "\n  its log ends with:" + "".join(f"\n    {line}" for line in lines) if lines else ""


def _remove_made(calls: OnlineCalls, request: DeploymentRequest, begun: bool, new_endpoint: bool, say: Say) -> None:
    """Remove what a failed deployment has left, but nothing that others have made in the same moment."""
    there = {str(item.name) for item in calls.deployments(request.endpoint)}
    if new_endpoint and not there - ({request.deployment} if begun else set()):
        calls.remove(request.endpoint, say)
    elif begun and request.deployment in there:
        calls.remove_deployment(request.endpoint, request.deployment, say)


def _keep_problem(calls: OnlineCalls, endpoint: str, deployment: str, problem: str) -> None:
    """Note why a deployment failed that stays; one whose change was refused is as it was."""
    found = calls.find_deployment(endpoint, deployment)
    if found is not None and azureml_workspace.state_of(found) is EndpointStatus.FAILED:
        calls.note_problem(endpoint, deployment, problem)
