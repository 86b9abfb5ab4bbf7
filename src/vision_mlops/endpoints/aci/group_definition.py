"""What a container group is made of: image, size, address, probes, the identity that pulls, and the keys as a file.

What the service does not need to know, but we do (model, version, bundle), is in tags of the group.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from vision_mlops.azure.azure_errors import azure_errors
from vision_mlops.config.azure_settings import AzureSettings
from vision_mlops.core.errors import ConfigError, DeploymentError
from vision_mlops.endpoints.aci.key_vault import EndpointKeys
from vision_mlops.endpoints.contract import DeploymentRequest
from vision_mlops.endpoints.inferencing_image import baked_image
from vision_mlops.registry import ModelVersion

if TYPE_CHECKING:
    from azure.mgmt.containerinstance.models import ContainerGroup, ContainerProbe

PORT = 8000
CONTAINER = "server"
KEY_FOLDER, KEY_FILE = "/mnt/mlops-keys", "keys"
_VOLUME = "scoring-keys"
_FACTS = "mlops.group."
_KEYS_TAG = f"{_FACTS}keys"
_CORES, _MEMORY_GB = 1.0, 2.0
_LABEL = re.compile(r"[a-z][a-z0-9-]{3,61}[a-z0-9]")
_AZURE_REGISTRY = re.compile(r"[a-z0-9]+\.azurecr\.(io|us|cn)")


@dataclass(frozen=True, slots=True)
class GroupSpec:
    """A group as it shall be. ``environment`` are all variables of the container, ``identity`` pulls the image."""

    endpoint: str
    deployment: str
    model: str
    version: str
    bundle_id: str
    image: str
    cores: float
    memory_gb: float
    dns_label: str
    location: str
    identity: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """Changes with everything that makes another group."""
        # Where the group is stays as it is, whatever the settings say meanwhile.
        fields = {name: getattr(self, name) for name in self.__slots__ if name != "location"}
        text = json.dumps({**fields, "environment": dict(self.environment)}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Facts:
    """What the tags of a group say about it."""

    deployment: str
    model: str
    version: str
    bundle: str
    digest: str
    keys: str


def wanted(request: DeploymentRequest, settings: AzureSettings, former: ContainerGroup | None) -> GroupSpec:
    """The group for a request; what the service cannot change, and what is not said anew, is as in the former one.

    Raises:
        DeploymentError: an option is malformed, or asks for what the service cannot change.
        ConfigError: no image, or nobody who may pull it, is named.
    """
    options, model = request.options, request.model
    image = options.image or _default_image(model, settings)
    cores, memory_gb, label = options.cpu or _CORES, options.memory_gb or _MEMORY_GB, options.dns_label
    if former is not None:
        requests = former.containers[0].resources.requests
        _check_size(request, requests.cpu, requests.memory_in_gb)
        cores, memory_gb = requests.cpu, requests.memory_in_gb
        label = label or str(getattr(former.ip_address, "dns_name_label", None) or "")
    label = label or default_label(request.endpoint, settings)
    if not _LABEL.fullmatch(label):
        hint = "use 5 to 63 lower-case letters, digits and '-', starting with a letter and not ending with '-'"
        raise DeploymentError(f"--dns-label {label}: not a label", hint)
    return GroupSpec(
        request.endpoint,
        request.deployment,
        model.name,
        str(model.version),
        model.bundle_id,
        image,
        cores,
        memory_gb,
        label,
        settings.location,
        _puller(image, settings),
        _environment(request),
    )


def definition(group: GroupSpec, keys: EndpointKeys, tags: Mapping[str, str]) -> ContainerGroup:
    """The group in the words of the service. ``tags`` are further ones. Raises MissingExtraError."""
    with azure_errors("Azure Container Instances"):
        from azure.mgmt.containerinstance import models
    container = models.Container(
        name=CONTAINER,
        image=group.image,
        resources=models.ResourceRequirements(
            requests=models.ResourceRequests(cpu=group.cores, memory_in_gb=group.memory_gb)
        ),
        ports=[models.ContainerPort(port=PORT, protocol="TCP")],
        environment_variables=[
            models.EnvironmentVariable(name=name, value=value) for name, value in group.environment.items()
        ],
        volume_mounts=[models.VolumeMount(name=_VOLUME, mount_path=KEY_FOLDER, read_only=True)],
        # Loading and verifying a model takes a while on a small machine; until then the server lives, but is not ready.
        liveness_probe=_probe("/health/live", initial=30, failures=5),
        readiness_probe=_probe("/health/ready", initial=5, failures=3),
    )
    identity, credentials = None, None
    if group.identity:
        assigned = {group.identity: models.UserAssignedIdentities()}
        identity = models.ContainerGroupIdentity(type="UserAssigned", user_assigned_identities=assigned)
        server = registry_host(group.image)
        credentials = [models.ImageRegistryCredential(server=server, identity=group.identity)]
    return models.ContainerGroup(
        location=group.location,
        tags=_facts_of(group, keys) | dict(tags),
        identity=identity,
        containers=[container],
        image_registry_credentials=credentials,
        os_type="Linux",
        restart_policy="Always",
        ip_address=models.IpAddress(
            type="Public",
            ports=[models.Port(port=PORT, protocol="TCP")],
            dns_name_label=group.dns_label,
            # The name gets a hash of the resource group: nobody else can take it over after a deletion.
            auto_generated_domain_name_label_scope="ResourceGroupReuse",
        ),
        volumes=[models.Volume(name=_VOLUME, secret=_secret(keys))],
    )


def again(group: ContainerGroup, keys: EndpointKeys) -> ContainerGroup:
    """A definition that makes a group which was read as it was, with these keys: the service never tells secrets."""
    with azure_errors("Azure Container Instances"):
        from azure.mgmt.containerinstance import models
    tags = {**(group.tags or {}), _KEYS_TAG: " ".join(keys.versions)}
    address = group.ip_address
    ports = [models.Port(port=item.port, protocol="TCP") for item in group.containers[0].ports or []]
    return models.ContainerGroup(
        location=group.location,
        tags=tags,
        identity=group.identity,
        containers=group.containers,
        image_registry_credentials=group.image_registry_credentials,
        os_type=group.os_type,
        restart_policy=group.restart_policy,
        ip_address=address
        and models.IpAddress(
            type=address.type,
            ports=ports,
            dns_name_label=address.dns_name_label,
            auto_generated_domain_name_label_scope=address.auto_generated_domain_name_label_scope,
        ),
        volumes=[models.Volume(name=_VOLUME, secret=_secret(keys))],
    )


def facts(group: ContainerGroup) -> Facts | None:
    """What a group was made for; None where this package did not make it."""
    tags = group.tags or {}
    if f"{_FACTS}model" not in tags:
        return None
    return Facts(**{name: tags.get(f"{_FACTS}{name}", "") for name in Facts.__slots__})


def other_tags(group: ContainerGroup) -> dict[str, str]:
    """The tags that are not ours."""
    return {name: str(value) for name, value in (group.tags or {}).items() if not name.startswith(_FACTS)}


def with_tags(group: ContainerGroup, tags: Mapping[str, str]) -> dict[str, str]:
    """All tags of a group, after others have replaced those that are not ours."""
    return {name: str(value) for name, value in (group.tags or {}).items() if name.startswith(_FACTS)} | dict(tags)


def default_label(endpoint: str, settings: AzureSettings) -> str:
    """First part of the host name: stays, and differs between resource groups."""
    place = f"{settings.subscription_id}/{settings.resource_group}".lower()
    return f"{endpoint}-{hashlib.sha256(place.encode()).hexdigest()[:8]}"


def registry_host(image: str) -> str:
    """Host of the registry of an image; Docker Hub's where it names none."""
    first, mark, _ = image.partition("/")
    return first if mark and ("." in first or ":" in first) else "docker.io"


def _facts_of(group: GroupSpec, keys: EndpointKeys) -> dict[str, str]:
    values = Facts(group.deployment, group.model, group.version, group.bundle_id, group.digest, " ".join(keys.versions))
    return {f"{_FACTS}{name}": getattr(values, name) for name in Facts.__slots__}


def _default_image(model: ModelVersion, settings: AzureSettings) -> str:
    if settings.container_registry:
        return baked_image(settings.container_registry, model)
    if settings.inferencing_image:
        return settings.inferencing_image
    raise ConfigError(
        "no image is named: container instances need one that holds the model",
        "export MLOPS_AZURE_CONTAINER_REGISTRY=crvision.azurecr.io, or give --image; see docs/how_to/deploy_aci.md",
    )


def _puller(image: str, settings: AzureSettings) -> str:
    host = registry_host(image)
    own = settings.container_registry
    private = (own is not None and host == registry_host(f"{own}/")) or bool(_AZURE_REGISTRY.fullmatch(host))
    if private and not settings.pull_identity:
        raise ConfigError(
            f"MLOPS_AZURE_PULL_IDENTITY is not set: nobody may pull from {host}",
            "give it the resource id of a user-assigned managed identity that has the role AcrPull on the registry",
        )
    return settings.pull_identity or "" if private else ""


def _check_size(request: DeploymentRequest, cores: float, memory_gb: float) -> None:
    for name, given, is_ in (("--cpu", request.options.cpu, cores), ("--memory", request.options.memory_gb, memory_gb)):
        if given is not None and given != is_:
            raise DeploymentError(
                f"{name} {given:g}: container instances cannot change the size of endpoint {request.endpoint!r}"
                f" ({cores:g} cores, {memory_gb:g} GB)",
                f"leave it out, or first: mlops endpoint delete {request.endpoint}",
            )


def _environment(request: DeploymentRequest) -> dict[str, str]:
    ours = {
        "MLOPS_HOST": "0.0.0.0",
        "MLOPS_PORT": str(PORT),
        "MLOPS_MODEL_NAME": request.model.name,
        "MLOPS_MODEL_VERSION": str(request.model.version),
        "MLOPS_SCORING_KEY_FILE": f"{KEY_FOLDER}/{KEY_FILE}",
    }
    if request.options.workers:
        ours["MLOPS_SERVING__WORKERS"] = str(request.options.workers)
    taken = sorted(ours.keys() & request.options.environment.keys())
    if taken:
        raise DeploymentError(f"--env {taken[0]}: it is set for every container", "leave it out")
    return {**request.options.environment, **ours}


def _probe(path: str, *, initial: int, failures: int) -> ContainerProbe:
    from azure.mgmt.containerinstance import models

    return models.ContainerProbe(
        http_get=models.ContainerHttpGet(path=path, port=PORT, scheme="http"),
        initial_delay_seconds=initial,
        period_seconds=10,
        timeout_seconds=5,
        failure_threshold=failures,
        success_threshold=1,
    )


def _secret(keys: EndpointKeys) -> dict[str, Any]:
    return {KEY_FILE: base64.b64encode(keys.to_file().encode()).decode()}
