"""The wanted state of an endpoint in a cluster, from a request, the settings, and its former state."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from vision_mlops.config.cluster_settings import DOMAIN, ClusterSettings
from vision_mlops.core.errors import DeploymentError
from vision_mlops.endpoints.aks.manifests import DEFINITION, EndpointManifest, Manifest
from vision_mlops.endpoints.contract import DeploymentRequest
from vision_mlops.endpoints.inferencing_image import baked_image

_TIMEOUT_SECONDS = 600  # the autoscaler takes some minutes to add a node
_SETTINGS = ("ingress_class", "cluster_issuer", "egress")
"""Settings that an update applies if they are set; the others only apply to a new endpoint."""
_LONGEST_NAME = 63  # of the name of a Service


def image_of(request: DeploymentRequest, settings: ClusterSettings) -> str:
    """Return the image to run: the one that is named, else the one that `mlops deploy --to docker --bake` builds.

    Raises:
        DeploymentError: neither an image nor a registry is named, or the version has no own image.
    """
    if request.options.image:
        return request.options.image
    if not settings.container_registry:
        raise DeploymentError(
            "no image to run: neither --image nor MLOPS_AZURE_CONTAINER_REGISTRY is given",
            "export MLOPS_AZURE_CONTAINER_REGISTRY=crvision.azurecr.io; mlops deploy --to docker --bake builds its image",
        )
    return baked_image(settings.container_registry, request.model)


def define(
    request: DeploymentRequest, settings: ClusterSettings, namespace: str, image: str, former: EndpointManifest | None
) -> EndpointManifest:
    """Return the wanted state of an endpoint: options, else its former state, else settings and defaults."""
    options, model = request.options, request.model
    if options.host and not re.fullmatch(DOMAIN, options.host):
        raise DeploymentError(
            f"--host {options.host!r} is not the name of a host", "write it like textile.ml.example.org"
        )
    facts: dict[str, Any] = {
        "endpoint": request.endpoint, "namespace": namespace, "deployment": request.deployment, "image": image,
        "model": model.name, "version": str(model.version), "bundle_id": model.bundle_id,
        "deadline_s": int(options.timeout_s or _TIMEOUT_SECONDS),
    }  # fmt: skip
    set_now = {name: getattr(settings, name) for name in _SETTINGS if name in settings.model_fields_set}
    if former is None:
        host = f"{request.endpoint}.{settings.domain}" if settings.domain else ""
        gateway = settings.gateway or ""
        base = EndpointManifest(**facts, **set_now, host=host, gateway=gateway, expose=settings.expose)
    else:
        base = replace(former, **facts, **set_now)
    said: dict[str, Any] = {
        "host": options.host or None, "port": options.port, "cpu": options.cpu, "memory_gb": options.memory_gb,
        "workers": options.workers, "instances": options.instances, "environment": dict(options.environment) or None,
    }  # fmt: skip
    made = replace(base, **{name: value for name, value in said.items() if value is not None})
    most = settings.max_instances or max(made.max_instances, 2 * made.instances)
    if most < made.instances:
        raise DeploymentError(
            f"--instances {made.instances} is more than MLOPS_AKS_MAX_INSTANCES={most}",
            "raise the limit, or lower --instances",
        )
    if len(made.object_name) > _LONGEST_NAME:
        raise DeploymentError(
            f"{made.object_name} is longer than {_LONGEST_NAME} characters, the limit for a Service",
            "choose a shorter --endpoint or --deployment",
        )
    return replace(made, max_instances=most)


def definition_of(deployment: Manifest) -> EndpointManifest:
    """Return the definition that a Deployment was rendered from. Raises DeploymentError."""
    metadata = deployment["metadata"]
    try:
        return EndpointManifest.from_json((metadata.get("annotations") or {})[DEFINITION])
    except (KeyError, TypeError, ValueError) as error:
        raise DeploymentError(
            f"Deployment {metadata['name']} in namespace {metadata['namespace']} has lost its annotation {DEFINITION}",
            f"kubectl delete deployment {metadata['name']} --namespace {metadata['namespace']}, then deploy it again",
        ) from error
