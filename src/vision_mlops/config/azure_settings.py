"""Settings of Azure: subscription, workspace, compute and names, from arguments, the environment or ``.env``.

The variable of a setting is its alias, by default ``MLOPS_AZURE_`` and its name. ``.env.example`` lists all of them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from vision_mlops.config.variable_settings import VariableSettings, example_of
from vision_mlops.core.errors import ConfigError
from vision_mlops.core.text import closest

Tier = Annotated[
    Literal["dedicated", "low_priority"],
    Field(description="low_priority runs on Spot machines: cheaper, and Azure may take one back."),
]
EndpointAuth = Literal["key", "aad_token", "aml_token"]
AutomlModel = Literal[
    "mobilenetv2", "resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "resnest50", "resnest101", "seresnext",
    "vits16r224", "vitb16r224", "vitl16r224",
]  # fmt: skip
OWN_PREFIX = "MLOPS_AZURE_"
_RETIRED = re.compile(r"Standard_(NC\d+r?|NC\d+r?s_v[23]|ND\d+r?s|NV\d+|NV\d+s_v2)(_Promo)?", re.IGNORECASE)
KNOWN_CLOUDS = {
    "AzureCloud": ("https://login.microsoftonline.com", "https://management.azure.com"),
    "AzureUSGovernment": ("https://login.microsoftonline.us", "https://management.usgovcloudapi.net"),
    "AzureChinaCloud": ("https://login.chinacloudapi.cn", "https://management.chinacloudapi.cn"),
}
"""Clouds that the SDK knows by name: addresses of the sign-in and of the resource manager."""
CLOUD_ADDRESSES = {
    "AZURE_AUTHORITY_HOST": "active_directory",
    "AZURE_RESOURCE_MANAGER": "resource_manager",
    "AZUREML_RESOURCE_ID": "aml_resource_id",
    "AZURE_PORTAL": "azure_portal",
    "AZURE_STORAGE_SUFFIX": "storage_endpoint",
    "AZUREML_REGISTRY_DISCOVERY": "registry_discovery_endpoint",
}
"""Variables with the addresses of a cloud that the SDK does not know, and the SDK's name of each."""
_VAULT_SUFFIXES = {
    "AzureCloud": "vault.azure.net",
    "AzureUSGovernment": "vault.usgovcloudapi.net",
    "AzureChinaCloud": "vault.azure.cn",
}
_NO_GUID = "00000000-0000-0000-0000-000000000000"


def _is_sold(value: str) -> str:
    if _RETIRED.fullmatch(value):
        raise ValueError(
            "Azure has retired this size; use for example Standard_NC4as_T4_v3 or Standard_NC24ads_A100_v4"
        )
    return value


Guid = Annotated[str, Field(pattern=r"^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$")]
Address = Annotated[str, Field(pattern=r"^https://[\w.-]+(:\d+)?/?$")]
WorkspaceName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{1,32}$")]
ComputeName = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9-]{1,22}[A-Za-z0-9]$")]
Sku = Annotated[str, Field(pattern=r"(?i)^(Standard|Basic)_[A-Za-z0-9_]+$"), AfterValidator(_is_sold)]
MachineSize = Annotated[Sku, Field(description="Size of its machines.")]
_Nodes = Annotated[int, Field(ge=0, le=1000)]
LeastNodes = Annotated[_Nodes, Field(description="Machines that it keeps when idle; 0 costs nothing.")]
MostNodes = Annotated[_Nodes, Field(description="Largest number of machines that it scales out to.")]
IdleSeconds = Annotated[int, Field(ge=60, le=86_400, description="Seconds until an idle machine is released.")]
REGISTRY_HOST = r"[a-z0-9][a-z0-9.-]*(:\d+)?(/[a-z0-9._-]+)*"
ContainerRegistry = Annotated[
    Annotated[str, Field(pattern=rf"^{REGISTRY_HOST}$")] | None,
    Field(
        alias=f"{OWN_PREFIX}CONTAINER_REGISTRY",
        examples=["crvision.azurecr.io"],
        description="Container registry for images that hold a model.",
    ),
]
Image = Annotated[str, Field(pattern=r"^[a-z0-9][\w./:@-]*$")]
IdentityId = Annotated[
    str,
    Field(
        pattern=r"(?i)^/subscriptions/[^/]+/resourceGroups/[^/]+/providers/Microsoft\.ManagedIdentity"
        r"/userAssignedIdentities/[^/]+$"
    ),
]
Vault = Annotated[str, Field(pattern=r"^([A-Za-z][A-Za-z0-9-]{1,22}[A-Za-z0-9]|https://[\w.-]+(:\d+)?/?)$")]


@dataclass(frozen=True)
class ComputeCluster:
    """A compute cluster of the workspace: its name, size of machine, and how it grows and shrinks."""

    name: str
    sku: str
    min_nodes: int
    max_nodes: int
    tier: Tier
    idle_seconds: int

    @property
    def reference(self) -> str:
        """As a job names it: ``azureml:NAME``."""
        return f"azureml:{self.name}"


@dataclass(frozen=True)
class Cloud:
    """An Azure cloud: the public one, a sovereign one (both known by name), or another one with all of its addresses."""

    name: str
    authority_host: str
    resource_manager: str
    addresses: Mapping[str, str]


class AzureSettings(VariableSettings):
    """All settings of Azure."""

    model_config = ConfigDict(alias_generator=lambda name: f"{OWN_PREFIX}{name.upper()}")
    prefix: ClassVar[str] = OWN_PREFIX

    subscription_id: Guid = Field(
        alias="AZURE_SUBSCRIPTION_ID", examples=[_NO_GUID], description="Subscription in which everything is created."
    )
    resource_group: Annotated[str, Field(pattern=r"^[\w().-]{0,89}[\w()-]$")] = Field(
        alias="AZURE_RESOURCE_GROUP", examples=["rg-vision"], description="Resource group of the workspace."
    )
    workspace_name: WorkspaceName = Field(
        alias="AZUREML_WORKSPACE_NAME", examples=["mlw-vision"], description="Workspace of Azure Machine Learning."
    )
    tenant_id: Guid | None = Field(
        None,
        alias="AZURE_TENANT_ID",
        examples=[_NO_GUID],
        description="Tenant to sign in to; by default that of the sign-in.",
    )
    location: Annotated[str, Field(pattern=r"^[a-z0-9]+$")] = Field(
        "westeurope", alias="AZURE_LOCATION", description="Region in which resources are created."
    )
    registry_name: WorkspaceName | None = Field(
        None,
        alias="AZUREML_REGISTRY_NAME",
        examples=["mlr-vision"],
        description="Azure ML registry that models are promoted through.",
    )
    datastore: Annotated[str, Field(pattern=r"^[a-z0-9_]{1,255}$")] = Field(
        "workspaceblobstore", description="Datastore that data is uploaded to."
    )
    environment: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,254}$")] = Field(
        "vision-mlops-train", description="Environment of the job steps."
    )

    instance_type: Sku = Field("Standard_DS3_v2", description="Machine of a managed online endpoint.")
    kubernetes: ComputeName | None = Field(
        None,
        examples=["kubernetes-cluster"],
        description="Attached cluster of Kubernetes online endpoints.",
    )
    endpoint_auth: EndpointAuth = Field(
        "key",
        description="Authentication of new online endpoints: key, or aad_token (managed), aml_token (on Kubernetes).",
    )
    container_registry: ContainerRegistry = None
    inferencing_image: Image | None = Field(
        None,
        examples=["crvision.azurecr.io/mlops-inferencing:1"],
        description="Image that serves models, unless a deployment names another.",
    )
    pull_identity: IdentityId | None = Field(
        None,
        examples=[
            f"/subscriptions/{_NO_GUID}/resourceGroups/rg-vision/providers/Microsoft.ManagedIdentity"
            "/userAssignedIdentities/id-pull"
        ],
        description="User-assigned managed identity that pulls images: its resource id.",
    )
    key_vault: Vault | None = Field(
        None,
        examples=["kv-vision"],
        description="Key vault for the keys of endpoints that Azure ML does not keep: its name, or its URL.",
    )

    cpu_cluster: ComputeName = Field("cpu-cluster", description="Compute cluster without GPUs.")
    cpu_sku: MachineSize = "Standard_DS3_v2"
    cpu_min_nodes: LeastNodes = 0
    cpu_max_nodes: MostNodes = 4
    cpu_tier: Tier = "dedicated"
    cpu_idle_seconds: IdleSeconds = 600
    gpu_cluster: ComputeName = Field("gpu-cluster", description="Compute cluster with GPUs.")
    gpu_sku: MachineSize = "Standard_NC4as_T4_v3"
    gpu_min_nodes: LeastNodes = 0
    gpu_max_nodes: MostNodes = 1
    gpu_tier: Tier = "dedicated"
    gpu_idle_seconds: IdleSeconds = 600

    automl_model: AutomlModel = Field(
        "vitb16r224",
        description="Network that AutoML for images trains in a benchmark, as Azure ML calls it.",
    )
    automl_timeout_minutes: Annotated[int, Field(ge=1, le=10_080)] = Field(
        180, description="Minutes that such a job may take."
    )

    cloud_name: Annotated[str, Field(pattern=r"^[A-Za-z0-9-]+$")] = Field(
        "AzureCloud",
        alias="AZURE_CLOUD",
        description="AzureCloud, AzureUSGovernment, AzureChinaCloud, or any name for a cloud whose addresses follow.",
    )
    authority_host: Address | None = Field(
        None, alias="AZURE_AUTHORITY_HOST", examples=["https://login.example.org"], description="Where to sign in."
    )
    resource_manager: Address | None = Field(
        None,
        alias="AZURE_RESOURCE_MANAGER",
        examples=["https://management.example.org"],
        description="Where resources are managed.",
    )
    ml_resource: Address | None = Field(
        None,
        alias="AZUREML_RESOURCE_ID",
        examples=["https://ml.example.org"],
        description="Audience of tokens for Azure ML.",
    )
    studio: Address | None = Field(
        None,
        alias="AZURE_PORTAL",
        examples=["https://portal.example.org"],
        description="Portal that links to jobs lead to.",
    )
    storage_suffix: Annotated[str, Field(pattern=r"^[\w.-]+(:\d+)?$")] | None = Field(
        None,
        alias="AZURE_STORAGE_SUFFIX",
        examples=["core.example.org"],
        description="After ACCOUNT.blob. in the address of a storage account.",
    )
    registry_discovery: Address | None = Field(
        None,
        alias="AZUREML_REGISTRY_DISCOVERY",
        examples=["https://registries.example.org"],
        description="Where Azure ML registries are looked up.",
    )

    @model_validator(mode="after")
    def _other_cloud_is_whole(self) -> AzureSettings:
        named = {alias: getattr(self, VARIABLES[alias]) for alias in CLOUD_ADDRESSES}
        missing = [alias for alias, value in named.items() if not value]
        if self.cloud_name in KNOWN_CLOUDS:
            given = [alias for alias in named if alias not in missing and alias != "AZURE_AUTHORITY_HOST"]
            if given:
                raise ValueError(
                    f"{given[0]} is for another cloud; give that cloud a name with AZURE_CLOUD, or unset {given[0]}"
                )
        elif missing:
            near = (closest(self.cloud_name, KNOWN_CLOUDS) or list(KNOWN_CLOUDS))[0]
            raise ValueError(
                f"AZURE_CLOUD={self.cloud_name!r} is not one of {', '.join(KNOWN_CLOUDS)}, and {', '.join(missing)}"
                f" {'is' if len(missing) == 1 else 'are'} not set; export AZURE_CLOUD={near},"
                " or set the addresses of another cloud"
            )
        return self

    @property
    def cloud(self) -> Cloud:
        """The cloud; ``addresses`` are empty for one that the SDK knows by name."""
        if self.cloud_name in KNOWN_CLOUDS:
            authority_host, resource_manager = KNOWN_CLOUDS[self.cloud_name]
            return Cloud(self.cloud_name, self.authority_host or authority_host, resource_manager, {})
        addresses = {key: getattr(self, VARIABLES[alias]) for alias, key in CLOUD_ADDRESSES.items()}
        return Cloud(self.cloud_name, str(self.authority_host), str(self.resource_manager).rstrip("/"), addresses)

    @property
    def key_vault_url(self) -> str:
        """Address of the key vault. Raises ConfigError if none is set, or the cloud's vaults are unknown."""
        if not self.key_vault:
            raise ConfigError(
                "MLOPS_AZURE_KEY_VAULT is not set: the keys of an endpoint have no place",
                "export MLOPS_AZURE_KEY_VAULT=kv-vision, or write it to .env",
            )
        if self.key_vault.startswith("https://"):
            return self.key_vault.rstrip("/")
        suffix = _VAULT_SUFFIXES.get(self.cloud_name)
        if suffix is None:
            raise ConfigError(
                f"the address of key vaults in the cloud {self.cloud_name!r} is not known",
                "set MLOPS_AZURE_KEY_VAULT to the URL of the vault",
            )
        return f"https://{self.key_vault}.{suffix}"

    @model_validator(mode="after")
    def _clusters_can_exist(self) -> AzureSettings:
        for kind, cluster in (("CPU", self.cpu), ("GPU", self.gpu)):
            most, least = f"{OWN_PREFIX}{kind}_MAX_NODES", f"{OWN_PREFIX}{kind}_MIN_NODES"
            if cluster.max_nodes < 1:
                raise ValueError(f"{most}={cluster.max_nodes} must be at least 1; export {most}=1")
            if cluster.max_nodes < cluster.min_nodes:
                raise ValueError(
                    f"{most}={cluster.max_nodes} must be at least {least}={cluster.min_nodes};"
                    f" raise {most} or lower {least}"
                )
        if self.cpu_cluster.lower() == self.gpu_cluster.lower():
            raise ValueError(
                f"{OWN_PREFIX}CPU_CLUSTER and {OWN_PREFIX}GPU_CLUSTER are both {self.cpu_cluster!r}; change one of them"
            )
        return self

    @property
    def cpu(self) -> ComputeCluster:
        """The cluster for steps that need no GPU."""
        return self._cluster("cpu")

    @property
    def gpu_is_set(self) -> bool:
        """Whether any setting of the GPU cluster was given; otherwise there may be no quota for it."""
        return any(name.startswith("gpu_") for name in self.model_fields_set)

    @property
    def gpu(self) -> ComputeCluster:
        """The cluster for training on a GPU."""
        return self._cluster("gpu")

    def _cluster(self, kind: str) -> ComputeCluster:
        rest = {
            item.name: getattr(self, f"{kind}_{item.name}") for item in fields(ComputeCluster) if item.name != "name"
        }
        return ComputeCluster(getattr(self, f"{kind}_cluster"), **rest)

    @classmethod
    def fix_for_missing(cls, variable: str) -> str:
        """Say how to set it, and how to do without."""
        return (
            f"export {variable}={example_of(cls.model_fields[VARIABLES[variable]])}, or write it to .env; .env.example"
            " lists all settings; or put `mlops azure emulate --` before the command, to try it without Azure"
        )


VARIABLES = AzureSettings.variables()
"""Field of each variable."""
