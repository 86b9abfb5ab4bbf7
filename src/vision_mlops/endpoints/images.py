"""Which image of the scoring server a target in Azure runs."""

from __future__ import annotations

from vision_mlops.config.azure_settings import AzureSettings
from vision_mlops.core.errors import DeploymentError
from vision_mlops.endpoints.contract import DeploymentOptions


def inferencing_image(options: DeploymentOptions, settings: AzureSettings) -> str:
    """The image of the options, else that of the settings. Raises DeploymentError where there is none."""
    image = options.image or settings.inferencing_image
    if not image:
        raise DeploymentError(
            "there is no image of the scoring server",
            "push environments/docker/inferencing_image to a container registry, and name it with --image or"
            " MLOPS_AZURE_INFERENCING_IMAGE",
        )
    return image
