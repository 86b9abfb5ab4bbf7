"""What all endpoints of Azure ML have in common, online and batch: a target over the SDK's calls."""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping
from typing import Any

from vision_mlops.core.errors import AzureError, DeploymentError
from vision_mlops.endpoints.azureml import azureml_workspace
from vision_mlops.endpoints.azureml.azureml_workspace import DEFINITION_TAG, PROBLEM_TAG, TARGET_TAG, Workspace
from vision_mlops.endpoints.azureml.endpoint_calls import EndpointCalls
from vision_mlops.endpoints.contract import Deployment, DeploymentRequest, Endpoint, EndpointStatus, Say, Target
from vision_mlops.jobs.azureml.azure_records import text_of


class AzureMLTarget(Target):
    """A kind of endpoint of Azure ML, whose counts are in Azure Monitor."""

    remark = ""
    """What is said of every deployment that begins."""

    def __init__(self, workspace: Workspace | None = None) -> None:
        self._workspace = workspace or Workspace()

    @property
    @abc.abstractmethod
    def _calls(self) -> EndpointCalls:
        """The calls of this kind of endpoint."""

    @abc.abstractmethod
    def _deployment(self, entity: Any, endpoint: Any) -> Deployment:
        """Return a deployment as it is now, from the SDK's entities."""

    def endpoints(self) -> list[Endpoint]:
        """See :meth:`vision_mlops.endpoints.contract.Target.endpoints`."""
        return [self._described(entity) for entity in self._calls.all()]

    def endpoint(self, name: str) -> Endpoint:
        """See :meth:`vision_mlops.endpoints.contract.Target.endpoint`."""
        return self._described(self._calls.endpoint(name))

    def set_tags(self, name: str, tags: Mapping[str, str]) -> None:
        """See :meth:`vision_mlops.endpoints.contract.Target.set_tags`; those of this target stay."""

        def change(entity: Any) -> None:
            kept = {key: value for key, value in (entity.tags or {}).items() if _is_own(key)}
            entity.tags = {**tags, **kept}

        self._calls.change(name, change)

    def delete_deployment(self, name: str, deployment: str) -> None:
        """See :meth:`vision_mlops.endpoints.contract.Target.delete_deployment`."""
        self._calls.endpoint(name)
        self._calls.remove(name, deployment)

    def delete(self, name: str) -> None:
        """See :meth:`vision_mlops.endpoints.contract.Target.delete`."""
        self._calls.endpoint(name)
        self._calls.remove(name)

    def _create_endpoint(self, loader: Callable[..., Any], file: str, content: dict[str, Any], say: Say) -> None:
        """Create the endpoint of a definition; one that fails is removed again."""
        name = str(content["name"])
        wanted = azureml_workspace.load(loader, file, {**content, "tags": {TARGET_TAG: self.name}})
        say(f"creating endpoint {name}")
        try:
            self._calls.make(wanted, say, afterwards=self._afterwards(name))
        except AzureError as error:
            raise self._calls.endpoint_failed(error, name, say) from error

    def _create_deployment(self, request: DeploymentRequest, wanted: Any, *, new_endpoint: bool, say: Say) -> None:
        """Create or change a deployment unless it is as wanted; a new one that fails is removed again."""
        name, endpoint = request.deployment, request.endpoint
        before = self._calls.find_deployment(endpoint, name)
        if before is not None:
            self._require_idle(before, f"deployment {name!r}", endpoint)
            same = before.tags.get(DEFINITION_TAG) == wanted.tags[DEFINITION_TAG]
            if same and azureml_workspace.state_of(before) is EndpointStatus.READY:
                return
        say(f"deploying {request.model.reference} as {name}{self.remark}")
        try:
            afterwards, seconds = self._afterwards(endpoint, name), request.options.timeout_s
            self._calls.make_deployment(wanted, say, afterwards=afterwards, seconds=seconds)
        except AzureError as error:
            kept = before is not None
            raise self._calls.deployment_failed(error, request, say, kept=kept, new_endpoint=new_endpoint) from error
        self._calls.note_problem(endpoint, name, "")

    def _require_idle(self, entity: Any, what: str, endpoint: str) -> None:
        if azureml_workspace.state_of(entity) is EndpointStatus.CHANGING:
            raise DeploymentError(
                f"{what} is {text_of(entity.provisioning_state)}: another change is in progress",
                f"wait until it has ended: mlops endpoint show {endpoint} --on {self.name}",
            )

    def _afterwards(self, endpoint: str, deployment: str = "") -> str:
        option = f" --deployment {deployment}" if deployment else ""
        return (
            f"To see its state: mlops endpoint show {endpoint} --on {self.name}; to remove it: mlops endpoint delete"
            f" {endpoint}{option} --on {self.name}"
        )

    def _described(self, entity: Any) -> Endpoint:
        name, state = str(entity.name), azureml_workspace.state_of(entity)
        failed = f"it is {text_of(entity.provisioning_state)}: deploy again, or delete it"
        return Endpoint(
            name=name,
            target=self.name,
            state=state,
            url=str(entity.scoring_uri or ""),
            auth=str(entity.auth_mode or ""),
            deployments=tuple(self._deployment(item, entity) for item in self._calls.deployments(name)),
            problem=failed if state is EndpointStatus.FAILED else "",
            tags={key: str(value) for key, value in (entity.tags or {}).items() if not _is_own(key)},
        )


def _is_own(tag: str) -> bool:
    return tag == TARGET_TAG or tag.startswith(PROBLEM_TAG)
