"""The calls about endpoints that the targets on Azure ML are made of; all refuse what another tool or target made."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from vision_mlops.azure.azure_errors import azure_errors
from vision_mlops.azure.clients import quiet
from vision_mlops.core.errors import AzureError, MlopsError
from vision_mlops.endpoints.azureml import azureml_workspace
from vision_mlops.endpoints.azureml.azureml_workspace import PROBLEM_TAG, TAG_LENGTH, Workspace
from vision_mlops.endpoints.azureml.long_running import carry_out, carry_out_removal
from vision_mlops.endpoints.contract import DeploymentRequest, EndpointStatus, Say, silent
from vision_mlops.jobs.azureml.job_resources import existing

_READ_LINES, _TAIL_LINES = 300, 10
_NO_ENDPOINT = "see `mlops endpoint list --on {target}`, or create it with `mlops deploy --to {target}`"


class EndpointCalls:
    """Calls about the endpoints of one target. All raise AzureError, and DeploymentError for what is not ours.

    Args:
        workspace: Where the endpoints are.
        target: Name of the target.
        kind: Which operations of the SDK they belong to.
    """

    def __init__(self, workspace: Workspace, target: str, kind: Literal["online", "batch"]) -> None:
        self._workspace = workspace
        self._target = target
        self._kind = kind

    @property
    def _endpoints(self) -> Any:
        return getattr(self._workspace.client, f"{self._kind}_endpoints")

    @property
    def _deployments(self) -> Any:
        return getattr(self._workspace.client, f"{self._kind}_deployments")

    def _subject(self, endpoint: str, deployment: str = "") -> tuple[str, Any, tuple[str, ...]]:
        """Return what messages call an endpoint or deployment, the SDK's operations, and the arguments that name it."""
        if deployment:
            return f"deployment {deployment!r} of endpoint {endpoint!r}", self._deployments, (deployment, endpoint)
        return f"endpoint {endpoint!r}", self._endpoints, (endpoint,)

    def all(self) -> list[Any]:
        """Return the SDK's entities of our endpoints, by name."""
        with azure_errors("endpoints"), quiet():
            found = [item for item in self._endpoints.list() if azureml_workspace.ours(item, self._target)]
        return sorted(found, key=lambda item: str(item.name))

    def endpoint(self, name: str) -> Any:
        """Return the SDK's entity of one of our endpoints."""
        with azure_errors(f"endpoint {name!r}", _NO_ENDPOINT.format(target=self._target)), quiet():
            entity = self._endpoints.get(name)
        azureml_workspace.require_ours(entity, self._target)
        return entity

    def find(self, name: str) -> Any | None:
        """Return the SDK's entity of an endpoint; None if it does not exist."""
        with azure_errors(f"endpoint {name!r}"):
            entity = existing(lambda: self._endpoints.get(name))
        if entity is not None:
            azureml_workspace.require_ours(entity, self._target)
        return entity

    def deployments(self, endpoint: str) -> list[Any]:
        """Return the SDK's entities of the deployments of an endpoint, by name."""
        with azure_errors(f"deployments of endpoint {endpoint!r}"), quiet():
            found = list(self._deployments.list(endpoint_name=endpoint))
        return sorted(found, key=lambda item: str(item.name))

    def find_deployment(self, endpoint: str, name: str) -> Any | None:
        """Return the SDK's entity of a deployment; None if it does not exist."""
        what, operations, key = self._subject(endpoint, name)
        with azure_errors(what):
            return existing(lambda: operations.get(*key))

    def make(self, wanted: Any, say: Say = silent, *, afterwards: str = "") -> None:
        """Create or change an endpoint, and wait for it."""
        what, operations, key = self._subject(str(wanted.name))
        carry_out(
            lambda: operations.begin_create_or_update(wanted), lambda: operations.get(*key), what, say,
            afterwards=afterwards,
        )  # fmt: skip

    def make_deployment(self, wanted: Any, say: Say, *, afterwards: str, seconds: float | None) -> None:
        """Create or change a deployment, and wait until it is ready."""
        what, operations, key = self._subject(str(wanted.endpoint_name), str(wanted.name))
        carry_out(
            lambda: operations.begin_create_or_update(wanted, skip_script_validation=True),
            lambda: operations.get(*key), what, say, afterwards=afterwards, seconds=seconds,
        )  # fmt: skip

    def change(self, name: str, change: Callable[[Any], None]) -> None:
        """Change the current state of an endpoint in one update."""
        entity = self.endpoint(name)
        change(entity)
        self.make(entity)

    def remove(self, endpoint: str, deployment: str = "", say: Say = silent) -> None:
        """Delete an endpoint with its deployments, or one deployment, and wait until it is gone."""
        what, operations, key = self._subject(endpoint, deployment)
        carry_out_removal(lambda: operations.begin_delete(*key), lambda: operations.get(*key), what, say)

    def last_words(self, endpoint: str, deployment: str) -> list[str]:
        """Return the last lines of the log of a deployment; none where only its jobs have logs."""
        return []

    def note_problem(self, endpoint: str, deployment: str, problem: str) -> None:
        """Store with an endpoint why a deployment failed, or clear it; does nothing where the service remembers it."""

    # Cleaning up

    def endpoint_failed(self, error: AzureError, name: str, say: Say) -> AzureError:
        """Return the error to raise for an endpoint that could not be created; if it exists as failed, remove it first."""
        left = ""
        try:
            found = self.find(name)
            if found is not None and azureml_workspace.state_of(found) is EndpointStatus.FAILED:
                self.remove(name, say=say)
        except MlopsError as other:
            delete = f"mlops endpoint delete {name} --on {self._target}"
            left = f"\n  it may still exist ({other.message}); remove it later with {delete}"
        return AzureError(f"{error.message}{left}", error.hint, error.status)

    def deployment_failed(
        self, error: AzureError, request: DeploymentRequest, say: Say, *, kept: bool, new_endpoint: bool
    ) -> AzureError:
        """Return the error to raise for a deployment that could not be created, after it has been cleaned up.

        Args:
            error: Why.
            request: What was asked for.
            say: Gets messages about faults.
            kept: It existed before, so it stays, and the reason is stored with its endpoint.
            new_endpoint: The endpoint was created for it, so it is removed as well.
        """
        name, endpoint = request.deployment, request.endpoint
        # A change that was refused never began: if the deployment exists all the same, someone else has just created it.
        begun = error.status < 400
        tail = self._tail(endpoint, name) if begun else ""
        left = ""
        try:
            if not kept:
                self._remove_made(request, begun, new_endpoint, say)
            else:
                found = self.find_deployment(endpoint, name)
                if found is not None and azureml_workspace.state_of(found) is EndpointStatus.FAILED:
                    self.note_problem(endpoint, name, error.message)
        except MlopsError as other:
            delete = f"mlops endpoint delete {endpoint} --deployment {name} --on {self._target}"
            left = f"\n  it still exists ({other.message}); remove it later with {delete}"
        return AzureError(f"{error.message}{left}{tail}", error.hint, error.status)

    def _tail(self, endpoint: str, deployment: str) -> str:
        """Return the last lines of a log for a message; empty if there is no log because nothing was created."""
        try:
            lines = self.last_words(endpoint, deployment)
        except AzureError as error:
            return "" if error.status == 404 else f"\n  {error.message}"
        return "\n  its log ends with:" + "".join(f"\n    {line}" for line in lines) if lines else ""

    def _remove_made(self, request: DeploymentRequest, begun: bool, new_endpoint: bool, say: Say) -> None:
        """Remove what a failed deployment has left behind, but nothing that others have created in the meantime."""
        there = {str(item.name) for item in self.deployments(request.endpoint)}
        if new_endpoint and not there - ({request.deployment} if begun else set()):
            self.remove(request.endpoint, say=say)
        elif begun and request.deployment in there:
            self.remove(request.endpoint, request.deployment, say)


class OnlineCalls(EndpointCalls):
    """Calls about online endpoints, which have keys and logs."""

    def __init__(self, workspace: Workspace, target: str) -> None:
        super().__init__(workspace, target, "online")

    def credentials(self, name: str) -> Any:
        """Return the SDK's keys or token of an endpoint."""
        with azure_errors(f"keys of endpoint {name!r}"), quiet():
            return self._endpoints.get_keys(name)

    def renew_key(self, name: str, which: str) -> None:
        """Replace a key with a new one."""
        with azure_errors(f"{which} key of endpoint {name!r}"), quiet():
            self._endpoints.begin_regenerate_keys(name, key_type=which).result()

    def logs(self, endpoint: str, deployment: str, lines: int) -> str:
        """Return the last lines of the server or, if it never started, of the container that mounts its model."""
        with azure_errors(f"log of deployment {deployment!r} of endpoint {endpoint!r}"), quiet():
            text = str(self._deployments.get_logs(deployment, endpoint, lines))
            if not text.strip():
                text = str(
                    self._deployments.get_logs(deployment, endpoint, lines, container_type="storage-initializer")
                )
        return text

    def last_words(self, endpoint: str, deployment: str) -> list[str]:
        """Return the last lines of a log, without those of probes, of which a server that does not become ready has many."""
        lines = self.logs(endpoint, deployment, _READ_LINES).strip().splitlines()
        return ([line for line in lines if "/health/" not in line] or lines)[-_TAIL_LINES:]

    def note_problem(self, endpoint: str, deployment: str, problem: str) -> None:
        """Store with an endpoint why a deployment failed, or clear it; sends nothing if nothing changes."""
        key = f"{PROBLEM_TAG}{deployment}"
        if (self.endpoint(endpoint).tags or {}).get(key, "") == problem[:TAG_LENGTH]:
            return

        def change(entity: Any) -> None:
            others = {name: value for name, value in (entity.tags or {}).items() if name != key}
            entity.tags = {**others, key: problem[:TAG_LENGTH]} if problem else others

        self.change(endpoint, change)
