"""The target ``kubernetes-endpoint``: an online endpoint of Azure ML on an attached Kubernetes cluster."""

from __future__ import annotations

from typing import Any

from vision_mlops.core.errors import DeploymentError
from vision_mlops.endpoints.azureml.online_target import OnlineTarget
from vision_mlops.endpoints.contract import DeploymentRequest
from vision_mlops.endpoints.inferencing_image import image_in_azure


def open_target() -> KubernetesEndpoint:
    """Return the target; nothing is read or sent before it is used."""
    return KubernetesEndpoint()


class KubernetesEndpoint(OnlineTarget):
    """Kubernetes online endpoints: the pods run in a cluster with the extension of Azure ML."""

    name = endpoint_file = "kubernetes-endpoint"
    auth_modes = ("key", "aml_token")
    options = frozenset(
        {
            "image", "instance_type", "instances", "cpu", "memory_gb", "compute", "workers", "auth", "environment",
            "timeout_s",
        }
    )  # fmt: skip

    def check(self, request: DeploymentRequest) -> None:
        """Refuse a deployment without an image or a cluster. Raises DeploymentError."""
        image_in_azure(request.options, self._workspace.settings)
        self._compute(request)

    def endpoint_definition(self, request: DeploymentRequest) -> dict[str, Any]:
        """See the base class; with its cluster."""
        return super().endpoint_definition(request) | {"compute": f"azureml:{self._compute(request)}"}

    def deployment_definition(self, request: DeploymentRequest) -> tuple[str, dict[str, Any]]:
        """See the base class; with the resources of a pod, unless a named instance type has its own."""
        options = request.options
        content = self._server_definition("kubernetes-deployment", options)
        if options.instance_type:
            content["instance_type"] = options.instance_type
            del content["resources"]
        else:
            for part in content["resources"].values():
                part["cpu"] = f"{options.cpu:g}" if options.cpu else part["cpu"]
                part["memory"] = f"{round(options.memory_gb * 1024)}Mi" if options.memory_gb else part["memory"]
        return "kubernetes-deployment", content

    def _compute(self, request: DeploymentRequest) -> str:
        name = request.options.compute or self._workspace.settings.kubernetes
        if not name:
            raise DeploymentError(
                "no Kubernetes cluster to deploy to is named",
                "attach one to the workspace, and name it with --compute or MLOPS_AZURE_KUBERNETES",
            )
        return name.removeprefix("azureml:")
