"""The target ``managed``: a managed online endpoint of Azure ML, with our own container or Azure ML's inference server."""

from __future__ import annotations

from typing import Any

from vision_mlops.core.errors import DeploymentError
from vision_mlops.endpoints.azureml.autoscale import check_bounds, ensure_rules, remove_rules
from vision_mlops.endpoints.azureml.online_target import OnlineTarget
from vision_mlops.endpoints.contract import DeploymentRequest, Endpoint, Say
from vision_mlops.endpoints.inferencing_image import image_in_azure


def open_target() -> Managed:
    """Return the target; nothing is read or sent before it is used."""
    return Managed()


class Managed(OnlineTarget):
    """Managed online endpoints: Azure runs the machines."""

    name = "managed"
    endpoint_file = "managed-endpoint"
    mirrors_at_most = 50
    auth_modes = ("key", "aad_token")
    options = frozenset(
        {
            "image",
            "score_script",
            "instance_type",
            "instances",
            "min_instances",
            "max_instances",
            "workers",
            "auth",
            "environment",
            "timeout_s",
        }
    )

    def deploy(self, request: DeploymentRequest, say: Say) -> Endpoint:
        """See :meth:`vision_mlops.endpoints.contract.Target.deploy`; with autoscale rules."""
        made = super().deploy(request, say)
        least, most = request.options.min_instances, request.options.max_instances
        if least is not None and most is not None:
            location = str(self._calls.endpoint(made.name).location)
            if ensure_rules(self._workspace.settings, made.name, request.deployment, location, least, most):
                say(f"deployment {request.deployment} has {least} to {most} instances, depending on its load")
        return made

    def delete_deployment(self, name: str, deployment: str) -> None:
        """See :meth:`vision_mlops.endpoints.contract.Target.delete_deployment`."""
        super().delete_deployment(name, deployment)
        remove_rules(self._workspace.settings, name, deployment)

    def delete(self, name: str) -> None:
        """See :meth:`vision_mlops.endpoints.contract.Target.delete`."""
        deployments = [str(item.name) for item in self._calls.deployments(name)]
        super().delete(name)
        for deployment in deployments:
            remove_rules(self._workspace.settings, name, deployment)

    def check(self, request: DeploymentRequest) -> None:
        """Refuse a deployment without an image, or with one that would not be used. Raises DeploymentError."""
        options = request.options
        check_bounds(options)
        if options.score_script and options.image:
            raise DeploymentError("--score-script and --image cannot be used together", "give only one of them")
        if not options.score_script:
            image_in_azure(options, self._workspace.settings)

    def deployment_definition(self, request: DeploymentRequest) -> tuple[str, dict[str, Any]]:
        """See the base class; with the size of its machines."""
        options = request.options
        name = "managed-score-script" if options.score_script else "managed-deployment"
        content = self._server_definition(name, options)
        content["instance_type"] = options.instance_type or self._workspace.settings.instance_type
        return name, content
