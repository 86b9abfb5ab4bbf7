"""What the online endpoints of Azure ML have in common, managed or on Kubernetes."""

from __future__ import annotations

import abc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from typing import Any

from vision_mlops.core.errors import AzureError, DeploymentError
from vision_mlops.endpoints.azureml import azureml_workspace
from vision_mlops.endpoints.azureml.azureml_target import AzureMLTarget
from vision_mlops.endpoints.azureml.azureml_workspace import ENTRY_SCRIPT, PROBLEM_TAG, package_code
from vision_mlops.endpoints.azureml.endpoint_calls import OnlineCalls
from vision_mlops.endpoints.contract import (
    Access,
    Deployment,
    DeploymentOptions,
    DeploymentRequest,
    Endpoint,
    EndpointStatus,
    Say,
)
from vision_mlops.endpoints.inferencing_image import image_in_azure
from vision_mlops.jobs.azureml.job_resources import content_hash


class OnlineTarget(AzureMLTarget):
    """A kind of online endpoint."""

    splits_traffic = True
    remark = ", which takes Azure some minutes"
    auth_modes: tuple[str, ...]
    """Authentication modes that an endpoint may have."""

    @cached_property
    def _calls(self) -> OnlineCalls:
        return OnlineCalls(self._workspace, self.name)

    # What a kind of endpoint decides

    endpoint_file: str
    """Name of the shipped definition of an endpoint."""

    def endpoint_definition(self, request: DeploymentRequest) -> dict[str, Any]:
        """Return the content of that definition for a request."""
        return azureml_workspace.definition(self.endpoint_file)

    @abc.abstractmethod
    def deployment_definition(self, request: DeploymentRequest) -> tuple[str, dict[str, Any]]:
        """Return the name of the shipped definition of a deployment, and its content, without names, model and tags."""

    # The methods of Target

    def deploy(self, request: DeploymentRequest, say: Say) -> Endpoint:
        """See :meth:`vision_mlops.endpoints.contract.Target.deploy`."""
        from azure.ai.ml import load_online_endpoint

        self.check(request)
        before = self._calls.find(request.endpoint)
        if before is None:
            self._check_auth(request)
        else:
            self._check_endpoint(before, request)
        address, name, version = azureml_workspace.workspace_model(self._workspace, request, say)
        with self._prepared(request, address, f"{name}/{version}") as wanted:
            if before is None:
                content = self.endpoint_definition(request)
                auth = request.options.auth or self._workspace.settings.endpoint_auth
                content |= {"name": request.endpoint, "auth_mode": auth}
                self._create_endpoint(load_online_endpoint, self.endpoint_file, content, say)
            self._create_deployment(request, wanted, new_endpoint=before is None, say=say)
        endpoint = self.endpoint(request.endpoint)
        if not any(item.traffic for item in endpoint.deployments):
            return self.set_traffic(request.endpoint, {request.deployment: 100}, {})
        return endpoint

    def access(self, name: str) -> Access:
        """See :meth:`vision_mlops.endpoints.contract.Target.access`."""
        entity = self._calls.endpoint(name)
        held = self._calls.credentials(name)
        secret = getattr(held, "primary_key", None) or getattr(held, "access_token", None)
        return Access(str(entity.scoring_uri or ""), {"Authorization": f"Bearer {secret}"})

    def logs(self, name: str, deployment: str, lines: int) -> str:
        """See :meth:`vision_mlops.endpoints.contract.Target.logs`.

        If the server has written nothing because it never started, these are those of the container that mounts the model.
        """
        self._calls.endpoint(name)
        return self._calls.logs(name, deployment, lines)

    def set_traffic(self, name: str, traffic: Mapping[str, int], mirror: Mapping[str, int]) -> Endpoint:
        """See :meth:`vision_mlops.endpoints.contract.Target.set_traffic`."""
        for deployment, share in mirror.items():
            if share > self.mirrors_at_most:
                limit = self.mirrors_at_most
                most = f"copies of at most {limit}% of its traffic" if limit else "no copies of its traffic"
                fix = f"give {limit} or less" if limit else "give it a share of the traffic"
                raise DeploymentError(f"--mirror {deployment}={share}: an endpoint on {self.name} sends {most}", fix)

        def change(entity: Any) -> None:
            entity.traffic = {deployment: share for deployment, share in traffic.items() if share}
            entity.mirror_traffic = {deployment: share for deployment, share in mirror.items() if share}

        self._calls.change(name, change)
        return self.endpoint(name)

    def keys(self, name: str) -> Mapping[str, str]:
        """See :meth:`vision_mlops.endpoints.contract.Target.keys`."""
        self._require_keys(name)
        held = self._calls.credentials(name)
        return {"primary": str(held.primary_key), "secondary": str(held.secondary_key)}

    def rotate_key(self, name: str, which: str) -> None:
        """See :meth:`vision_mlops.endpoints.contract.Target.rotate_key`."""
        self._require_keys(name)
        self._calls.renew_key(name, which)

    # Making

    def _check_auth(self, request: DeploymentRequest) -> None:
        """Refuse an authentication mode that an endpoint of this target does not support. Raises DeploymentError."""
        given, usual = request.options.auth, self._workspace.settings.endpoint_auth
        if (given or usual) in self.auth_modes:
            return
        where = f"--auth {given}" if given else f"MLOPS_AZURE_ENDPOINT_AUTH={usual}"
        known = " or ".join(self.auth_modes)
        raise DeploymentError(
            f"{where}: an endpoint on {self.name} takes {known}", f"give --auth {' or --auth '.join(self.auth_modes)}"
        )

    def _check_endpoint(self, entity: Any, request: DeploymentRequest) -> None:
        wanted = request.options.auth
        if wanted and wanted != entity.auth_mode:
            raise DeploymentError(
                f"--auth {wanted}: endpoint {entity.name!r} takes {entity.auth_mode}, which cannot be changed",
                "remove --auth, or choose another --endpoint",
            )
        self._require_idle(entity, f"endpoint {entity.name!r}", str(entity.name))

    def _server_definition(self, name: str, options: DeploymentOptions) -> dict[str, Any]:
        """Return a shipped definition of a deployment, with its image, number of instances and number of workers."""
        content = azureml_workspace.definition(name)
        content["instance_count"] = options.instances or options.min_instances or content["instance_count"]
        if not options.score_script:  # which runs on Azure ML's own inference server
            content["environment"]["image"] = image_in_azure(options, self._workspace.settings)
        if options.workers:
            variable = "WORKER_COUNT" if options.score_script else "MLOPS_SERVING__WORKERS"
            content["environment_variables"][variable] = str(options.workers)
        return content

    @contextmanager
    def _prepared(self, request: DeploymentRequest, address: str, mounted: str) -> Iterator[Any]:
        """Yield the SDK's entity of the deployment, and, while the block runs, the code that it is made of."""
        from azure.ai.ml import load_online_deployment

        name, content = self.deployment_definition(request)
        variables: dict[str, str] = content.setdefault("environment_variables", {})
        if "MLOPS_BUNDLE" in variables:
            variables["MLOPS_BUNDLE"] = f"/var/azureml-app/azureml-models/{mounted}/bundle"
            variables |= {"MLOPS_MODEL_NAME": request.model.name, "MLOPS_MODEL_VERSION": str(request.model.version)}
        variables |= {key: str(value) for key, value in request.options.environment.items()}
        content |= {"name": request.deployment, "endpoint_name": request.endpoint, "model": address}
        if "code_configuration" not in content:
            content["tags"] = azureml_workspace.deployment_tags(request, self.name, content)
            yield azureml_workspace.load(load_online_deployment, name, content)
            return
        with package_code() as folder:
            content["code_configuration"] = {"code": "code", "scoring_script": ENTRY_SCRIPT}
            content["tags"] = azureml_workspace.deployment_tags(request, self.name, content, content_hash(folder))
            content["code_configuration"]["code"] = str(folder)
            yield azureml_workspace.load(load_online_deployment, name, content)

    # Looking

    def _require_keys(self, name: str) -> None:
        mode = self._calls.endpoint(name).auth_mode
        if mode != "key":
            raise DeploymentError(
                f"endpoint {name!r} takes tokens ({mode}); it has no keys",
                "sign in as someone who may score, or create an endpoint with --auth key",
            )

    def _deployment(self, entity: Any, endpoint: Any) -> Deployment:
        name = str(entity.name)
        state = azureml_workspace.state_of(entity)
        problem = ""
        if state is EndpointStatus.FAILED:
            problem = (endpoint.tags or {}).get(f"{PROBLEM_TAG}{name}") or self._last_line(str(endpoint.name), name)
        model, version = azureml_workspace.model_of(entity)
        return Deployment(
            name=name,
            model=model,
            version=version,
            state=state,
            traffic=int((endpoint.traffic or {}).get(name, 0)),
            mirror=int((endpoint.mirror_traffic or {}).get(name, 0)),
            instances=int(entity.instance_count or 1),
            problem=problem,
            machine=str(getattr(entity, "instance_type", None) or "") if self.name == "managed" else "",
        )

    def _last_line(self, endpoint: str, deployment: str) -> str:
        try:
            lines = self._calls.last_words(endpoint, deployment)
        except AzureError as error:
            return error.message
        return lines[-1] if lines else "it failed, and its log is empty"
