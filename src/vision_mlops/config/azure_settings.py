"""Where in Azure things are: subscription, workspace, compute and names, from arguments, the environment or ``.env``.

Each setting has one variable, its alias below. Argument > environment > ``.env`` in the current folder > default; an empty
value counts as none. ``.env.example`` lists all of them.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from vision_mlops.config.accepted_values import accepted
from vision_mlops.core.errors import ConfigError, MissingExtraError

Tier = Literal["dedicated", "low_priority"]
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
"""Clouds that the SDK knows by name: where one signs in, and the resource manager."""
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
Nodes = Annotated[int, Field(ge=0, le=1000)]
IdleSeconds = Annotated[int, Field(ge=60, le=86_400)]
REGISTRY_HOST = r"[a-z0-9][a-z0-9.-]*(:\d+)?(/[a-z0-9._-]+)*"
RegistryHost = Annotated[str, Field(pattern=rf"^{REGISTRY_HOST}$")]
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
    """Which Azure: the public one, a sovereign one (both known by name), or another, with all of its addresses."""

    name: str
    authority_host: str
    resource_manager: str
    addresses: Mapping[str, str]


class AzureSettings(BaseModel):
    """All settings; the alias of a field is the variable that holds it."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, populate_by_name=True)

    subscription_id: Guid = Field(
        alias="AZURE_SUBSCRIPTION_ID", examples=[_NO_GUID], description="Subscription that everything is made in."
    )
    resource_group: Annotated[str, Field(pattern=r"^[\w().-]{0,89}[\w()-]$")] = Field(
        alias="AZURE_RESOURCE_GROUP", examples=["rg-vision"], description="Resource group of the workspace."
    )
    workspace_name: WorkspaceName = Field(
        alias="AZUREML_WORKSPACE_NAME", examples=["mlw-vision"], description="Workspace of Azure Machine Learning."
    )
    tenant_id: Guid | None = Field(
        None, alias="AZURE_TENANT_ID", examples=[_NO_GUID], description="Without it the sign-in decides."
    )
    location: Annotated[str, Field(pattern=r"^[a-z0-9]+$")] = Field(
        "westeurope", alias="AZURE_LOCATION", description="Where resources are created."
    )
    registry_name: WorkspaceName | None = Field(
        None,
        alias="AZUREML_REGISTRY_NAME",
        examples=["mlr-vision"],
        description="Azure ML registry that models are promoted through.",
    )
    datastore: Annotated[str, Field(pattern=r"^[a-z0-9_]{1,255}$")] = Field(
        "workspaceblobstore", alias="MLOPS_AZURE_DATASTORE", description="Where data is uploaded to."
    )
    environment: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,254}$")] = Field(
        "vision-mlops-train", alias="MLOPS_AZURE_ENVIRONMENT", description="Environment of the job steps."
    )

    instance_type: Sku = Field(
        "Standard_DS3_v2", alias="MLOPS_AZURE_INSTANCE_TYPE", description="Machine of a managed online endpoint."
    )
    kubernetes: ComputeName | None = Field(
        None,
        alias="MLOPS_AZURE_KUBERNETES",
        examples=["kubernetes-cluster"],
        description="Attached cluster of Kubernetes online endpoints.",
    )
    endpoint_auth: EndpointAuth = Field(
        "key",
        alias="MLOPS_AZURE_ENDPOINT_AUTH",
        description="What new online endpoints ask for: key, or aad_token (managed), aml_token (on Kubernetes).",
    )
    container_registry: RegistryHost | None = Field(
        None,
        alias="MLOPS_AZURE_CONTAINER_REGISTRY",
        examples=["crvision.azurecr.io"],
        description="Where images that hold a model are.",
    )
    inferencing_image: Image | None = Field(
        None,
        alias="MLOPS_AZURE_INFERENCING_IMAGE",
        examples=["crvision.azurecr.io/mlops-inferencing:1"],
        description="Image that serves, where a deployment names none.",
    )
    pull_identity: IdentityId | None = Field(
        None,
        alias="MLOPS_AZURE_PULL_IDENTITY",
        examples=[
            f"/subscriptions/{_NO_GUID}/resourceGroups/rg-vision/providers/Microsoft.ManagedIdentity"
            "/userAssignedIdentities/id-pull"
        ],
        description="User-assigned managed identity that pulls images: its resource id.",
    )
    key_vault: Vault | None = Field(
        None,
        alias="MLOPS_AZURE_KEY_VAULT",
        examples=["kv-vision"],
        description="Key vault for the keys of endpoints that Azure ML does not keep: its name, or its URL.",
    )

    cpu_cluster: ComputeName = Field(
        "cpu-cluster", alias="MLOPS_AZURE_CPU_CLUSTER", description="Compute cluster without a graphics processor."
    )
    cpu_sku: Sku = Field("Standard_DS3_v2", alias="MLOPS_AZURE_CPU_SKU", description="Size of its machines.")
    cpu_min_nodes: Nodes = Field(
        0, alias="MLOPS_AZURE_CPU_MIN_NODES", description="Machines that it keeps when idle; 0 costs nothing."
    )
    cpu_max_nodes: Nodes = Field(4, alias="MLOPS_AZURE_CPU_MAX_NODES", description="Machines that it grows to.")
    cpu_tier: Tier = Field(
        "dedicated",
        alias="MLOPS_AZURE_CPU_TIER",
        description="low_priority runs on Spot machines: cheaper, and Azure may take one back.",
    )
    cpu_idle_seconds: IdleSeconds = Field(
        600, alias="MLOPS_AZURE_CPU_IDLE_SECONDS", description="Seconds until an idle machine is released."
    )
    gpu_cluster: ComputeName = Field(
        "gpu-cluster", alias="MLOPS_AZURE_GPU_CLUSTER", description="Compute cluster with graphics processors."
    )
    gpu_sku: Sku = Field("Standard_NC4as_T4_v3", alias="MLOPS_AZURE_GPU_SKU", description="Size of its machines.")
    gpu_min_nodes: Nodes = Field(
        0, alias="MLOPS_AZURE_GPU_MIN_NODES", description="Machines that it keeps when idle; 0 costs nothing."
    )
    gpu_max_nodes: Nodes = Field(1, alias="MLOPS_AZURE_GPU_MAX_NODES", description="Machines that it grows to.")
    gpu_tier: Tier = Field(
        "dedicated",
        alias="MLOPS_AZURE_GPU_TIER",
        description="low_priority runs on Spot machines: cheaper, and Azure may take one back.",
    )
    gpu_idle_seconds: IdleSeconds = Field(
        600, alias="MLOPS_AZURE_GPU_IDLE_SECONDS", description="Seconds until an idle machine is released."
    )

    automl_model: AutomlModel = Field(
        "vitb16r224",
        alias="MLOPS_AZURE_AUTOML_MODEL",
        description="Network that AutoML for images trains in a benchmark, as Azure ML calls it.",
    )
    automl_timeout_minutes: Annotated[int, Field(ge=1, le=10_080)] = Field(
        180, alias="MLOPS_AZURE_AUTOML_TIMEOUT_MINUTES", description="How long such a job may take."
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
                raise ValueError(f"{given[0]} is for another cloud: give it a name with AZURE_CLOUD")
        elif missing:
            raise ValueError(
                f"AZURE_CLOUD={self.cloud_name!r} is none of {', '.join(KNOWN_CLOUDS)}, and {', '.join(missing)}"
                f" {'is' if len(missing) == 1 else 'are'} not set"
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
        """Address of the key vault. Raises ConfigError where none is set, or the cloud's vaults are not known."""
        if not self.key_vault:
            raise ConfigError(
                "MLOPS_AZURE_KEY_VAULT is not set: the keys of an endpoint need a place",
                "export MLOPS_AZURE_KEY_VAULT=kv-vision, or write it to .env",
            )
        if self.key_vault.startswith("https://"):
            return self.key_vault.rstrip("/")
        suffix = _VAULT_SUFFIXES.get(self.cloud_name)
        if suffix is None:
            raise ConfigError(
                f"where the vaults of the cloud {self.cloud_name!r} are is not known",
                "give MLOPS_AZURE_KEY_VAULT as URL",
            )
        return f"https://{self.key_vault}.{suffix}"

    @model_validator(mode="after")
    def _clusters_can_exist(self) -> AzureSettings:
        for kind, cluster in (("CPU", self.cpu), ("GPU", self.gpu)):
            name = f"{OWN_PREFIX}{kind}_MAX_NODES"
            if cluster.max_nodes < max(1, cluster.min_nodes):
                raise ValueError(f"{name}={cluster.max_nodes} must be at least {max(1, cluster.min_nodes)}")
        if self.cpu_cluster.lower() == self.gpu_cluster.lower():
            raise ValueError(f"{OWN_PREFIX}CPU_CLUSTER and {OWN_PREFIX}GPU_CLUSTER are both {self.cpu_cluster!r}")
        return self

    @property
    def cpu(self) -> ComputeCluster:
        """The cluster for steps without a graphics processor."""
        return ComputeCluster(
            self.cpu_cluster, self.cpu_sku, self.cpu_min_nodes, self.cpu_max_nodes, self.cpu_tier, self.cpu_idle_seconds
        )

    @property
    def gpu_is_set(self) -> bool:
        """Whether any setting of the cluster with graphics processors was given; else there may be no quota for it."""
        return any(name.startswith("gpu_") for name in self.model_fields_set)

    @property
    def gpu(self) -> ComputeCluster:
        """The cluster for training on a graphics processor."""
        return ComputeCluster(
            self.gpu_cluster, self.gpu_sku, self.gpu_min_nodes, self.gpu_max_nodes, self.gpu_tier, self.gpu_idle_seconds
        )


VARIABLES: dict[str, str] = {str(field.alias): name for name, field in AzureSettings.model_fields.items()}
"""Field of each variable."""


def load_azure_settings(
    *, env_file: Path | None = None, environ: Mapping[str, str] | None = None, **arguments: str | int | None
) -> AzureSettings:
    """Read and check all settings.

    Args:
        env_file: File of ``NAME=value`` lines; ``.env`` in the current folder where not given. It may be missing.
        environ: The environment; that of the process where not given.
        arguments: Values by field name (``location="westeurope"``), which win over everything; None counts as not given.

    Raises:
        ConfigError: names every variable that is missing or malformed, with what is accepted.
        MissingExtraError: there is an ``.env``, and python-dotenv is not installed.
    """
    file = env_file or Path(".env")
    layers: list[tuple[str, Mapping[str, str]]] = [
        (str(file), read_env_file(file)),
        ("environment", os.environ if environ is None else environ),
    ]
    values: dict[str, str] = {}
    origins: dict[str, str] = {}
    names: set[str] = set()
    for origin, layer in layers:
        for name, value in layer.items():
            names.add(name)
            if name.startswith(OWN_PREFIX) and "__" not in name and name not in VARIABLES:
                raise ConfigError(f"there is no setting {name} ({origin})", _nearest(name, VARIABLES))
            if name in VARIABLES and value.strip():
                values[name], origins[name] = value.strip(), origin
    variables = {field: variable for variable, field in VARIABLES.items()}
    for field, given in arguments.items():
        if field not in variables:
            raise ConfigError(f"there is no Azure setting {field!r}", _nearest(field, variables))
        if given is not None:
            values[variables[field]], origins[variables[field]] = str(given), "argument"
    try:
        return AzureSettings.model_validate_strings(values)
    except ValidationError as error:
        raise ConfigError(*_explain(error, values, origins, names)) from error


def read_setting(variable: str, *, env_file: Path | None = None) -> str:
    """One variable of the environment or ``.env``, where the others are not needed; empty where it is not set.

    Raises:
        ConfigError, MissingExtraError: as :func:`load_azure_settings` does for the file.
    """
    return os.environ.get(variable, "").strip() or read_env_file(env_file or Path(".env")).get(variable, "").strip()


def read_env_file(file: Path) -> dict[str, str]:
    """``NAME=value`` lines of a file; none where it does not exist. Raises ConfigError or MissingExtraError."""
    if not file.exists():
        return {}
    try:
        from dotenv.parser import parse_stream
    except ImportError as error:
        raise MissingExtraError("python-dotenv", "azure") from error
    try:
        with file.open(encoding="utf-8") as stream:
            bindings = list(parse_stream(stream))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{file} cannot be read: {error}", "make it a text file in UTF-8 of NAME=value lines"
        ) from error
    for binding in bindings:
        if binding.error:
            raise ConfigError(f"{file}:{binding.original.line}: not of the form NAME=value", "mend or remove this line")
    return {binding.key: binding.value for binding in bindings if binding.key and binding.value is not None}


def _explain(
    error: ValidationError, values: Mapping[str, str], origins: Mapping[str, str], names: set[str]
) -> tuple[str, str]:
    """Message and hint for all mistakes, the missing ones first."""
    missing: list[str] = []
    wrong: list[str] = []
    mends: list[str] = []
    items = error.errors(include_url=False)
    for item in items:
        name = str(item["loc"][0]) if item["loc"] else ""
        text = item["msg"].removeprefix("Value error, ")
        if item["type"] == "missing":
            missing.append(name)
            near = difflib.get_close_matches(name, names - set(VARIABLES), n=1, cutoff=0.85)
            mends += [f"is {near[0]} meant to be {name}?"] if near else []
        elif not name:  # several settings do not go together
            wrong.append(text)
        else:
            wrong.append(f"{name}={values[name]!r} ({origins[name]}) is not valid")
            if item["type"] == "string_pattern_mismatch":
                text = f"write it like {_example(name)}"
            elif item["type"] != "value_error":
                text = accepted(AzureSettings.model_fields[VARIABLES[name]], values[name], text)
            mends.append(f"{name}: {text}" if len(items) > 1 else text)
    if missing:
        wrong.insert(0, f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} not set")
        mends.append(
            f"export {missing[0]}={_example(missing[0])}, or write it to .env; .env.example lists all settings;"
            " or put `mlops azure emulate --` before the command, to try it without Azure"
        )
    return "; ".join(wrong), "; ".join(mends) or "change one of them"


def _example(variable: str) -> str:
    field = AzureSettings.model_fields[VARIABLES[variable]]
    return str(field.examples[0] if field.examples else field.default)


def _nearest(name: str, valid: Mapping[str, str]) -> str:
    return f"did you mean {difflib.get_close_matches(name, valid, n=1, cutoff=0.0)[0]}?"
