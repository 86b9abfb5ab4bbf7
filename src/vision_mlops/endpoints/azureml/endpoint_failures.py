"""Clean up an endpoint or deployment that could not be created, and report it with its last log lines."""

from __future__ import annotations

from vision_mlops.core.errors import AzureError, MlopsError
from vision_mlops.endpoints.azureml import azureml_workspace
from vision_mlops.endpoints.azureml.endpoint_calls import EndpointCalls
from vision_mlops.endpoints.azureml.long_running import is_refusal
from vision_mlops.endpoints.contract import DeploymentRequest, EndpointStatus, Say


def endpoint_failed(calls: EndpointCalls, error: AzureError, name: str, target: str, say: Say) -> AzureError:
    """The error to raise for an endpoint that could not be created. If it exists as failed, it is removed first."""
    left = ""
    try:
        found = calls.find(name)
        if found is not None and azureml_workspace.state_of(found) is EndpointStatus.FAILED:
            calls.remove(name, say)
    except MlopsError as other:
        left = (
            f"\n  it may still exist ({other.message}); remove it later with mlops endpoint delete {name} --on {target}"
        )
    return AzureError(f"{error.message}{left}", error.hint, error.status)


def deployment_failed(
    calls: EndpointCalls,
    error: AzureError,
    request: DeploymentRequest,
    target: str,
    say: Say,
    *,
    kept: bool,
    new_endpoint: bool,
) -> AzureError:
    """The error to raise for a deployment that could not be created, after it has been cleaned up.

    Args:
        calls: Of the target.
        error: Why.
        request: What was asked for.
        target: Name of the target.
        say: Gets messages about faults.
        kept: It existed before, so it stays, and the reason is stored with its endpoint.
        new_endpoint: The endpoint was created for it, so it is removed as well.
    """
    name, endpoint = request.deployment, request.endpoint
    # A change that was refused never began: if the deployment exists all the same, someone else has just created it.
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
        left = f"\n  it still exists ({other.message}); remove it later with {delete}"
    return AzureError(f"{error.message}{left}{tail}", error.hint, error.status)


def _tail(calls: EndpointCalls, endpoint: str, deployment: str) -> str:
    """The last lines of a log for a message; empty if there is no log because nothing was created."""
    try:
        lines = calls.last_words(endpoint, deployment)
    except AzureError as error:
        return "" if error.status == 404 else f"\n  {error.message}"
    return "\n  its log ends with:" + "".join(f"\n    {line}" for line in lines) if lines else ""


def _remove_made(calls: EndpointCalls, request: DeploymentRequest, begun: bool, new_endpoint: bool, say: Say) -> None:
    """Remove what a failed deployment has left behind, but nothing that others have created in the meantime."""
    there = {str(item.name) for item in calls.deployments(request.endpoint)}
    if new_endpoint and not there - ({request.deployment} if begun else set()):
        calls.remove(request.endpoint, say)
    elif begun and request.deployment in there:
        calls.remove_deployment(request.endpoint, request.deployment, say)


def _keep_problem(calls: EndpointCalls, endpoint: str, deployment: str, problem: str) -> None:
    """Store why a deployment that stays has failed; one whose change was refused is unchanged."""
    found = calls.find_deployment(endpoint, deployment)
    if found is not None and azureml_workspace.state_of(found) is EndpointStatus.FAILED:
        calls.note_problem(endpoint, deployment, problem)
