"""The target ``batch``: a model deployment on a batch endpoint of Azure ML, which scores whole folders as a job."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

from vision_mlops.azure.azure_errors import azure_errors
from vision_mlops.azure.clients import quiet
from vision_mlops.core.errors import DeploymentError
from vision_mlops.endpoints.azureml import azureml_workspace
from vision_mlops.endpoints.azureml.azureml_target import AzureMLTarget
from vision_mlops.endpoints.azureml.endpoint_calls import EndpointCalls
from vision_mlops.endpoints.contract import Access, Deployment, DeploymentRequest, Endpoint, EndpointStatus, Say, silent
from vision_mlops.jobs.azureml.azure_records import text_of
from vision_mlops.jobs.azureml.job_resources import content_hash
from vision_mlops.jobs.azureml.run_history import RunHistory
from vision_mlops.jobs.azureml.submission import Preparation
from vision_mlops.jobs.pipelines import PIPELINES

_ENTRY = PIPELINES / "batch"


def open_target() -> BatchTarget:
    """Return the target; nothing is read or sent before it is used."""
    return BatchTarget()


class BatchTarget(AzureMLTarget):
    """Batch endpoints. An invocation runs the default deployment, whose traffic is shown as 100 percent."""

    name = "batch"
    options = frozenset({"compute", "instances", "environment", "timeout_s"})

    @cached_property
    def _calls(self) -> EndpointCalls:
        return EndpointCalls(self._workspace, self.name, "batch")

    def deploy(self, request: DeploymentRequest, say: Say) -> Endpoint:
        """See :meth:`vision_mlops.endpoints.contract.Target.deploy`; it becomes the default, and replaces others."""
        from azure.ai.ml import load_batch_endpoint

        name = request.endpoint
        is_new = self._calls.find(name) is None
        wanted = self._prepared(request, say)
        if is_new:
            content = azureml_workspace.definition("batch-endpoint") | {"name": name}
            self._create_endpoint(load_batch_endpoint, "batch-endpoint", content, say)
        self._create_deployment(request, wanted, new_endpoint=is_new, say=say)
        self._make_default(name, request.deployment, say)
        for item in self.endpoint(name).deployments:
            if item.name != request.deployment and item.state is not EndpointStatus.CHANGING:
                say(f"removing {item.name} ({item.reference})")
                self.delete_deployment(name, item.name)
        return self.endpoint(name)

    def access(self, name: str) -> Access:
        """Refuse: a batch endpoint takes folders."""
        raise DeploymentError(
            f"endpoint {name!r} scores folders, not single images",
            "mlops batch score --help; for single images: mlops deploy --to managed",
        )

    def logs(self, name: str, deployment: str, lines: int) -> str:
        """Return the last lines of the newest job of a deployment, step by step. Raises DeploymentError if there is none."""
        self._calls.endpoint(name)
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
        """Choose the default deployment: 100 percent for one, which is all there is. Raises DeploymentError."""
        chosen = [deployment for deployment, share in traffic.items() if share == 100]
        if len(chosen) != 1 or any(mirror.values()):
            raise DeploymentError("a batch endpoint has one default deployment", "give one of them 100 percent")
        self._make_default(name, chosen[0], silent)
        return self.endpoint(name)

    def keys(self, name: str) -> Mapping[str, str]:
        """Refuse: batch endpoints have no keys."""
        raise DeploymentError(
            f"endpoint {name!r} takes tokens of Microsoft Entra, no keys",
            "give those who may invoke it a role on the workspace, such as AzureML Data Scientist",
        )

    def _prepared(self, request: DeploymentRequest, say: Say) -> Any:
        """Return the SDK's entity, with model, environment and cluster in place."""
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
        content["tags"] = azureml_workspace.deployment_tags(request, self.name, content, content_hash(_ENTRY))
        return azureml_workspace.load(load_model_batch_deployment, "batch-deployment", content)

    def _make_default(self, name: str, deployment: str, say: Say) -> None:
        entity = self._calls.endpoint(name)
        if getattr(entity.defaults, "deployment_name", None) == deployment:
            return
        entity.defaults = {"deployment_name": deployment}
        self._calls.make(entity)
        say(f"{deployment} is the default deployment of {name}")

    def _deployment(self, entity: Any, endpoint: Any) -> Deployment:
        model, version = azureml_workspace.model_of(entity)
        state = azureml_workspace.state_of(entity)
        return Deployment(
            name=str(entity.name),
            model=model,
            version=version,
            state=state,
            traffic=100 if entity.name == getattr(endpoint.defaults, "deployment_name", None) else 0,
            instances=int(getattr(entity.resources, "instance_count", None) or 1),
            problem="it could not be created: deploy again" if state is EndpointStatus.FAILED else "",
        )
