"""Which Kubernetes cluster the target ``aks`` uses, and how; from the environment or ``.env``.

Nothing here needs an Azure subscription: the sign-in is that of the kubeconfig.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field

from vision_mlops.config.azure_settings import ContainerRegistry
from vision_mlops.config.variable_settings import VariableSettings

PREFIX = "MLOPS_AKS_"
DNS_LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
DOMAIN = rf"({DNS_LABEL}\.)+{DNS_LABEL}"
Domain = Annotated[str, Field(pattern=rf"^{DOMAIN}$", max_length=253)]
DnsLabel = Annotated[str, Field(pattern=rf"^{DNS_LABEL}$")]
DnsName = Annotated[str, Field(pattern=rf"^{DNS_LABEL}(\.{DNS_LABEL})*$", max_length=253)]


class ClusterSettings(VariableSettings):
    """All settings of a cluster."""

    model_config = ConfigDict(alias_generator=lambda name: f"{PREFIX}{name.upper()}")
    prefix: ClassVar[str] = PREFIX

    container_registry: ContainerRegistry = None
    context: str | None = Field(
        None,
        examples=["aks-vision"],
        description="Context of the kubeconfig; by default its current one.",
    )
    namespace: DnsLabel | None = Field(
        None,
        examples=["vision"],
        description="Namespace of the objects; by default that of the context.",
    )
    domain: Domain | None = Field(
        None,
        examples=["ml.example.org"],
        description="Domain of new endpoints: each gets an Ingress for ENDPOINT.DOMAIN with TLS.",
    )
    gateway: Annotated[str, Field(pattern=rf"^{DNS_LABEL}/{DNS_LABEL}(\.{DNS_LABEL})*$")] | None = Field(
        None,
        examples=["mlops-gateway/mlops"],
        description="NAMESPACE/NAME of a Gateway; behind it, an endpoint may have several versions that share the traffic.",
    )
    ingress_class: DnsName | None = Field(None, examples=["nginx"], description="Class of the Ingress.")
    cluster_issuer: DnsName | None = Field(
        None,
        examples=["letsencrypt"],
        description="Issuer of cert-manager that issues the certificates.",
    )
    expose: Literal["internal", "cluster"] = Field(
        "internal",
        description="Without a host: internal is a load balancer with a private address, cluster has no address outside.",
    )
    max_instances: Annotated[int, Field(ge=1, le=1000)] | None = Field(
        None,
        examples=["4"],
        description="Largest number of pods of an endpoint; by default twice --instances, at least 4.",
    )
    egress: Literal["none", "https"] = Field(
        "none",
        description="What a pod may call: nothing, or https for telemetry and the log of predictions.",
    )


VARIABLES = ClusterSettings.variables()
"""Field of each variable."""
