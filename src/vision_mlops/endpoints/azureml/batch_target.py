"""The target ``batch``: a model deployment on a batch endpoint of Azure ML, which scores whole folders as a job."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vision_mlops.azure.azure_errors import azure_errors
from vision_mlops.azure.clients import quiet
from vision_mlops.core.errors import AzureError, DeploymentError
from vision_mlops.endpoints.azureml import azureml_workspace
from vision_mlops.endpoints.azureml.azureml_workspace import TARGET_TAG, Workspace
from vision_mlops.endpoints.azureml.long_running import carry_out, carry_out_removal, is_refusal
from vision_mlops.endpoints.contract import Access, Counts, Deployment, DeploymentRequest, Endpoint, EndpointStatus, Say
from vision_mlops.jobs.azureml.azure_records import text_of
from vision_mlops.jobs.azureml.job_resources import content_hash, existing
from vision_mlops.jobs.azureml.run_history import RunHistory
from vision_mlops.jobs.azureml.submission import Preparation
from vision_mlops.jobs.pipelines import PIPELINES

_NO_ENDPOINT = "see `mlops endpoint list`, or make it with `mlops deploy --to batch`"
_ENTRY = PIPELINES / "batch"


def open_target() -> BatchTarget:
    """The target; nothing is read or sent before it is used."""
    return BatchTarget()


def _silent(text: str) -> None:
    """Nobody listens."""


class BatchTarget:
    """Batch endpoints: what the default deployment is, an invocation runs. Its traffic is shown as 100 percent."""

    name = "batch"
    splits_traffic = False
    mirrors_at_most = 0
    options = frozenset({"compute", "instances", "environment", "timeout_s"})

    def __init__(self, workspace: Workspace | None = None) -> None:
        self._workspace = workspace or Workspace()

    def deploy(self, request: DeploymentRequest, say: Say) -> Endpoint:
        """See :meth:`vision_mlops.endpoints.contract.Target.deploy`; it becomes the default, and replaces others."""
        name, client = request.endpoint, self._workspace.client
        with azure_errors(f"endpoint {name!r}"):
            before = existing(lambda: client.batch_endpoints.get(name))
        if before is not None:
            azureml_workspace.require_ours(before, self.name)
        wanted = self._prepared(request, say)
        if before is None:
            self._create_endpoint(name, say)
        try:
            self._create_deployment(request, wanted, say)
        except AzureError as error:
            if before is None:
                raise self._undone(error, name, say) from error
            raise
        self._make_default(name, request.deployment, say)
        for item in self.endpoint(name).deployments:
            if item.name != request.deployment and item.state is not EndpointStatus.CHANGING:
                say(f"removing {item.name} ({item.reference})")
                self.delete_deployment(name, item.name)
        return self.endpoint(name)

    def endpoints(self) -> list[Endpoint]:
        """See :meth:`vision_mlops.endpoints.contract.Target.endpoints`."""
        with azure_errors("batch endpoints"), quiet():
            found = [
                item
                for item in self._workspace.client.batch_endpoints.list()
                if azureml_workspace.ours(item, self.name)
            ]
        return [self._described(entity) for entity in sorted(found, key=lambda item: str(item.name))]

    def endpoint(self, name: str) -> Endpoint:
        """See :meth:`vision_mlops.endpoints.contract.Target.endpoint`."""
        return self._described(self._entity(name))

    def access(self, name: str) -> Access:
        """Refused: a batch endpoint takes folders."""
        raise DeploymentError(
            f"endpoint {name!r} scores folders, no single images",
            "mlops batch score --help; for single images: mlops deploy --to managed",
        )

    def logs(self, name: str, deployment: str, lines: int) -> str:
        """The last lines of the newest job of a deployment, step by step. Raises DeploymentError where it had none."""
        self._entity(name)
        client = self._workspace.client
        with azure_errors(f"jobs of deployment {deployment!r}"), quiet():
            jobs = [job for job in client.batch_deployments.list_jobs(name, name=deployment) if job is not None]
        if not jobs:
            raise DeploymentError(f"deployment {deployment!r} has run no job yet", "mlops batch score --help")
        with azure_errors(f"jobs of deployment {deployment!r}"), quiet():
            newest = max(
                (client.jobs.get(str(job.name)) for job in jobs), key=lambda job: str(job.creation_context.created_at)
            )
        runs = RunHistory(client)
        written = [
            f"[{step.step}] {line}"
            for step in runs.steps(str(newest.name))
            for line in runs.new_lines(step.name, final=True)
        ]
        return "\n".join([f"job {newest.name}: {text_of(newest.status)}", *written][-lines:])

    def set_traffic(self, name: str, traffic: Mapping[str, int], mirror: Mapping[str, int]) -> Endpoint:
        """Only which deployment is the default can be said: 100 percent for one. Raises DeploymentError."""
        chosen = [deployment for deployment, share in traffic.items() if share == 100]
        if len(chosen) != 1 or any(mirror.values()):
            raise DeploymentError("a batch endpoint has one default deployment", "give one of them 100 percent")
        self._make_default(name, chosen[0], _silent)
        return self.endpoint(name)

    def counts(self, name: str) -> Mapping[str, Counts] | None:
        """None: it answers jobs, no requests."""
        return None

    def set_tags(self, name: str, tags: Mapping[str, str]) -> None:
        """See :meth:`vision_mlops.endpoints.contract.Target.set_tags`."""
        entity = self._entity(name)
        entity.tags = {**tags, TARGET_TAG: self.name}
        self._update(entity, f"tags of endpoint {name!r}")

    def keys(self, name: str) -> Mapping[str, str]:
        """Refused: batch endpoints have no keys."""
        raise self._no_keys(name)

    def rotate_key(self, name: str, which: str) -> None:
        """Refused: batch endpoints have no keys."""
        raise self._no_keys(name)

    def delete_deployment(self, name: str, deployment: str) -> None:
        """See :meth:`vision_mlops.endpoints.contract.Target.delete_deployment`; the service refuses the default."""
        self._entity(name)
        calls, what = self._workspace.client.batch_deployments, f"deployment {deployment!r} of endpoint {name!r}"
        carry_out_removal(
            lambda: calls.begin_delete(deployment, name), lambda: calls.get(deployment, name), what, _silent
        )

    def delete(self, name: str) -> None:
        """See :meth:`vision_mlops.endpoints.contract.Target.delete`. Jobs that run go on."""
        self._entity(name)
        self._remove_endpoint(name, _silent)

    def _prepared(self, request: DeploymentRequest, say: Say) -> Any:
        """The SDK's entity, with model, environment and cluster in place."""
        from azure.ai.ml.entities._load_functions import load_model_batch_deployment

        client, settings, options = self._workspace.client, self._workspace.settings, request.options
        preparation = Preparation(client, settings, say)
        environment = preparation.environment(azureml_workspace.DEFINITIONS / "batch-deployment.yml")
        cluster = preparation.compute(options.compute or settings.cpu.name)
        model, _, _ = azureml_workspace.workspace_model(self._workspace, request, say)
        content = azureml_workspace.definition("batch-deployment")
        content |= {"name": request.deployment, "endpoint_name": request.endpoint, "model": model}
        content["environment"] = f"azureml:{environment}"
        content["compute"] = f"azureml:{cluster}"
        content["resources"]["instance_count"] = options.instances or content["resources"]["instance_count"]
        content["settings"]["environment_variables"] = dict(options.environment)
        made_of = azureml_workspace.fingerprint(content, content_hash(_ENTRY))
        content["tags"] = azureml_workspace.deployment_tags(request, self.name, made_of)
        return azureml_workspace.load(load_model_batch_deployment, "batch-deployment", content)

    def _create_endpoint(self, name: str, say: Say) -> None:
        from azure.ai.ml import load_batch_endpoint

        content = azureml_workspace.definition("batch-endpoint")
        content |= {"name": name, "tags": {TARGET_TAG: self.name}}
        wanted = azureml_workspace.load(load_batch_endpoint, "batch-endpoint", content)
        say(f"creating batch endpoint {name}")
        self._update(wanted, f"endpoint {name!r}", say)

    def _create_deployment(self, request: DeploymentRequest, wanted: Any, say: Say) -> None:
        name, endpoint = request.deployment, request.endpoint
        calls, what = self._workspace.client.batch_deployments, f"deployment {name!r} of endpoint {endpoint!r}"
        with azure_errors(what):
            before = existing(lambda: calls.get(name, endpoint))
        same = (
            before is not None
            and before.tags.get(azureml_workspace.DEFINITION_TAG) == wanted.tags[azureml_workspace.DEFINITION_TAG]
        )
        if same and azureml_workspace.state_of(before) is EndpointStatus.READY:
            return
        say(f"deploying {request.model.reference} as {name}")
        look = f"mlops endpoint show {endpoint} --on {self.name}"
        try:
            carry_out(
                lambda: calls.begin_create_or_update(wanted, skip_script_validation=True),
                lambda: calls.get(name, endpoint),
                what,
                say,
                afterwards=f"To look: {look}; to remove it: mlops endpoint delete {endpoint} --on {self.name}",
                seconds=request.options.timeout_s,
            )
        except AzureError as error:
            with azure_errors(what):
                there = before is None and existing(lambda: calls.get(name, endpoint)) is not None
            if there and not is_refusal(error):  # else somebody else has made it just now
                self.delete_deployment(endpoint, name)
            raise error

    def _undone(self, error: AzureError, name: str, say: Say) -> AzureError:
        """What is raised where the first deployment of an endpoint failed, after the endpoint is removed again."""
        try:
            if not self.endpoint(name).deployments:
                self._remove_endpoint(name, say)
        except AzureError as other:
            later = f"\n  it is still there ({other.message}); later: mlops endpoint delete {name} --on {self.name}"
            return AzureError(f"{error.message}{later}", error.hint, error.status)
        return error

    def _make_default(self, name: str, deployment: str, say: Say) -> None:
        entity = self._entity(name)
        if getattr(entity.defaults, "deployment_name", None) == deployment:
            return
        entity.defaults = {"deployment_name": deployment}
        self._update(entity, f"endpoint {name!r}")
        say(f"{deployment} is the default deployment of {name}")

    def _entity(self, name: str) -> Any:
        with azure_errors(f"batch endpoint {name!r}", _NO_ENDPOINT), quiet():
            entity = self._workspace.client.batch_endpoints.get(name)
        azureml_workspace.require_ours(entity, self.name)
        return entity

    def _update(self, entity: Any, what: str, say: Say = _silent) -> None:
        calls = self._workspace.client.batch_endpoints
        carry_out(lambda: calls.begin_create_or_update(entity), lambda: calls.get(entity.name), what, say)

    def _remove_endpoint(self, name: str, say: Say) -> None:
        calls = self._workspace.client.batch_endpoints
        carry_out_removal(lambda: calls.begin_delete(name), lambda: calls.get(name), f"endpoint {name!r}", say)

    def _no_keys(self, name: str) -> DeploymentError:
        return DeploymentError(
            f"endpoint {name!r} takes tokens of Microsoft Entra, no keys",
            "give who may invoke it a role on the workspace, such as AzureML Data Scientist",
        )

    def _described(self, entity: Any) -> Endpoint:
        name = str(entity.name)
        with azure_errors(f"deployments of endpoint {name!r}"), quiet():
            found = list(self._workspace.client.batch_deployments.list(endpoint_name=name))
        default = getattr(entity.defaults, "deployment_name", None)
        state = azureml_workspace.state_of(entity)
        return Endpoint(
            name=name,
            target=self.name,
            state=state,
            url=str(entity.scoring_uri or ""),
            auth="aad_token",
            deployments=tuple(_deployment(item, default) for item in sorted(found, key=lambda item: str(item.name))),
            problem="it could not be made: deploy again, or delete it" if state is EndpointStatus.FAILED else "",
            tags={key: str(value) for key, value in (entity.tags or {}).items() if key != TARGET_TAG},
        )


def _deployment(entity: Any, default: str | None) -> Deployment:
    model, version = azureml_workspace.model_of(entity)
    state = azureml_workspace.state_of(entity)
    return Deployment(
        name=str(entity.name),
        model=model,
        version=version,
        state=state,
        traffic=100 if entity.name == default else 0,
        instances=int(getattr(entity.resources, "instance_count", None) or 1),
        problem="it could not be made: deploy again" if state is EndpointStatus.FAILED else "",
    )
