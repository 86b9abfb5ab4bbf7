"""The definition of a container group: image, size, address, probes, the identity that pulls, and the keys as a file.

Facts that only this package needs (model, version, bundle) are in tags of the group.
"""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
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
    """The wanted state of a group. ``environment`` are all variables of the container; ``identity`` pulls the image."""

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
        """A digest that changes with everything that makes a different group."""
        # The location of a group never changes, even if the settings do.
        fields = {name: getattr(self, name) for name in self.__slots__ if name != "location"}
        text = json.dumps({**fields, "environment": dict(self.environment)}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Facts:
    """The facts in the tags of a group."""

    deployment: str
    model: str
    version: str
    bundle: str
    digest: str
    keys: str


def wanted(request: DeploymentRequest, settings: AzureSettings, former: ContainerGroup | None) -> GroupSpec:
    """Return the group for a request. What the service cannot change, and what the request does not mention, stays the same.

    Raises:
        DeploymentError: an option is malformed, or asks for what the service cannot change.
        ConfigError: no image, or no identity that may pull it, is named.
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
        raise DeploymentError(f"--dns-label {label!r} is not a valid label", hint)
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
    """Return the group as an object of the SDK. ``tags`` are further tags. Raises MissingExtraError."""
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
        # Loading and verifying a model takes a while on a small machine; until then the server is live, but not ready.
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
            # The name gets a hash of the resource group, so that nobody else can take it over after a deletion.
            auto_generated_domain_name_label_scope="ResourceGroupReuse",
        ),
        volumes=[models.Volume(name=_VOLUME, secret=_secret(keys))],
    )


def again(group: ContainerGroup, keys: EndpointKeys) -> ContainerGroup:
    """Return a definition that restores a group that was read, with these keys: the service never returns secrets."""
    with azure_errors("Azure Container Instances"):
        from azure.mgmt.containerinstance import models
    made = copy.copy(group)
    made.tags = {**(group.tags or {}), _KEYS_TAG: keys.stamp}
    made.volumes = [models.Volume(name=_VOLUME, secret=_secret(keys))]
    if address := group.ip_address:  # without the address itself, which the service assigns
        made.ip_address = models.IpAddress(
            type=address.type,
            ports=[models.Port(port=item.port, protocol="TCP") for item in group.containers[0].ports or []],
            dns_name_label=address.dns_name_label,
            auto_generated_domain_name_label_scope=address.auto_generated_domain_name_label_scope,
        )
    return made


def facts(group: ContainerGroup) -> Facts | None:
    """Return the facts about a group; None if this package did not create it."""
    tags = group.tags or {}
    if f"{_FACTS}model" not in tags:
        return None
    return Facts(**{name: tags.get(f"{_FACTS}{name}", "") for name in Facts.__slots__})


def other_tags(group: ContainerGroup) -> dict[str, str]:
    """Return the tags of others."""
    return {name: str(value) for name, value in (group.tags or {}).items() if not name.startswith(_FACTS)}


def with_tags(group: ContainerGroup, tags: Mapping[str, str]) -> dict[str, str]:
    """Return all tags of a group, with the tags of others replaced."""
    return {name: str(value) for name, value in (group.tags or {}).items() if name.startswith(_FACTS)} | dict(tags)


def default_label(endpoint: str, settings: AzureSettings) -> str:
    """Return the first part of the host name, which is stable, and differs between resource groups."""
    place = f"{settings.subscription_id}/{settings.resource_group}".lower()
    return f"{endpoint}-{hashlib.sha256(place.encode()).hexdigest()[:8]}"


def registry_host(image: str) -> str:
    """Return the host of the registry of an image; that of Docker Hub if it names none."""
    first, mark, _ = image.partition("/")
    return first if mark and ("." in first or ":" in first) else "docker.io"


def _facts_of(group: GroupSpec, keys: EndpointKeys) -> dict[str, str]:
    values = Facts(group.deployment, group.model, group.version, group.bundle_id, group.digest, keys.stamp)
    return {f"{_FACTS}{name}": value for name, value in asdict(values).items()}


def _default_image(model: ModelVersion, settings: AzureSettings) -> str:
    if settings.container_registry:
        return baked_image(settings.container_registry, model)
    if settings.inferencing_image:
        return settings.inferencing_image
    raise ConfigError(
        "no image is named: container instances need one that contains the model",
        "export MLOPS_AZURE_CONTAINER_REGISTRY=crvision.azurecr.io, or give --image; see docs/how_to/deploy_aci.md",
    )


def _puller(image: str, settings: AzureSettings) -> str:
    host = registry_host(image)
    own = settings.container_registry
    private = (own is not None and host == registry_host(f"{own}/")) or bool(_AZURE_REGISTRY.fullmatch(host))
    if private and not settings.pull_identity:
        raise ConfigError(
            f"MLOPS_AZURE_PULL_IDENTITY is not set, so nothing may pull from {host}",
            "set it to the resource id of a user-assigned managed identity with the role AcrPull on the registry",
        )
    return settings.pull_identity or "" if private else ""


def _check_size(request: DeploymentRequest, cores: float, memory_gb: float) -> None:
    for name, given, is_ in (("--cpu", request.options.cpu, cores), ("--memory", request.options.memory_gb, memory_gb)):
        if given is not None and given != is_:
            raise DeploymentError(
                f"{name} {given:g}: container instances cannot change the size of endpoint {request.endpoint!r}"
                f" ({cores:g} cores, {memory_gb:g} GB)",
                f"remove the option, or delete the endpoint first: mlops endpoint delete {request.endpoint} --on aci",
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
        raise DeploymentError(f"--env {taken[0]}: it is set for every container", "remove the option")
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
