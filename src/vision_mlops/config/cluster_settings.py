"""Which Kubernetes cluster the target ``aks`` uses, and how; from the environment or ``.env``.

Nothing here needs an Azure subscription: the sign-in is that of the kubeconfig.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from vision_mlops.config.azure_settings import RegistryHost
from vision_mlops.config.prefixed_settings import load_prefixed

PREFIX = "MLOPS_AKS_"
DNS_LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
DOMAIN = rf"({DNS_LABEL}\.)+{DNS_LABEL}"
Domain = Annotated[str, Field(pattern=rf"^{DOMAIN}$", max_length=253)]
DnsLabel = Annotated[str, Field(pattern=rf"^{DNS_LABEL}$")]
DnsName = Annotated[str, Field(pattern=rf"^{DNS_LABEL}(\.{DNS_LABEL})*$", max_length=253)]


class ClusterSettings(BaseModel):
    """All settings; the alias of a field is the variable that holds it."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    container_registry: RegistryHost | None = Field(
        None,
        alias="MLOPS_AZURE_CONTAINER_REGISTRY",
        examples=["crvision.azurecr.io"],
        description="Where images that hold a model are.",
    )
    context: str | None = Field(
        None,
        alias="MLOPS_AKS_CONTEXT",
        examples=["aks-vision"],
        description="Context of the kubeconfig; its current one where not set.",
    )
    namespace: DnsLabel | None = Field(
        None,
        alias="MLOPS_AKS_NAMESPACE",
        examples=["vision"],
        description="Namespace of the objects; that of the context where not set.",
    )
    domain: Domain | None = Field(
        None,
        alias="MLOPS_AKS_DOMAIN",
        examples=["ml.example.org"],
        description="A new endpoint gets an Ingress for ENDPOINT.DOMAIN with TLS.",
    )
    gateway: Annotated[str, Field(pattern=rf"^{DNS_LABEL}/{DNS_LABEL}(\.{DNS_LABEL})*$")] | None = Field(
        None,
        alias="MLOPS_AKS_GATEWAY",
        examples=["mlops-gateway/mlops"],
        description="NAMESPACE/NAME of a Gateway; behind it, an endpoint may have several versions that share the traffic.",
    )
    ingress_class: DnsName | None = Field(
        None, alias="MLOPS_AKS_INGRESS_CLASS", examples=["nginx"], description="Class of the Ingress."
    )
    cluster_issuer: DnsName | None = Field(
        None,
        alias="MLOPS_AKS_CLUSTER_ISSUER",
        examples=["letsencrypt"],
        description="Issuer of cert-manager that makes the certificates.",
    )
    expose: Literal["internal", "cluster"] = Field(
        "internal",
        alias="MLOPS_AKS_EXPOSE",
        description="Without a host: internal is a load balancer with a private address, cluster has no address outside.",
    )
    max_instances: Annotated[int, Field(ge=1, le=1000)] | None = Field(
        None,
        alias="MLOPS_AKS_MAX_INSTANCES",
        examples=["4"],
        description="Most pods of an endpoint; twice --instances where not set, at least 4.",
    )
    egress: Literal["none", "https"] = Field(
        "none",
        alias="MLOPS_AKS_EGRESS",
        description="What a pod may call: nothing, or https for telemetry and the log of predictions.",
    )


VARIABLES: dict[str, str] = {str(field.alias): name for name, field in ClusterSettings.model_fields.items()}
"""Field of each variable."""


def load_cluster_settings(*, env_file: Path | None = None, environ: Mapping[str, str] | None = None) -> ClusterSettings:
    """Read and check all settings; an empty value counts as none.

    Args:
        env_file: File of ``NAME=value`` lines; ``.env`` in the current folder where not given. It may be missing.
        environ: The environment, which wins over the file; that of the process where not given.

    Raises:
        ConfigError: a value is malformed, or there is no setting of a name.
        MissingExtraError: there is an ``.env``, and python-dotenv is not installed.
    """
    return load_prefixed(ClusterSettings, PREFIX, env_file, environ)
