"""Which image of the scoring server a target in Azure runs."""

from __future__ import annotations

from vision_mlops.config.azure import AzureSettings
from vision_mlops.deployment.targets.base import Options
from vision_mlops.exceptions import DeploymentError


def inferencing_image(options: Options, settings: AzureSettings) -> str:
    """The image of the options, else that of the settings. Raises DeploymentError where there is none."""
    image = options.image or settings.inferencing_image
    if not image:
        raise DeploymentError(
            "there is no image of the scoring server",
            "push environments/docker/inferencing_image to a container registry, and name it with --image or"
            " MLOPS_AZURE_INFERENCING_IMAGE",
        )
    return image
