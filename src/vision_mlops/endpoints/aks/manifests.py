"""The manifests of an endpoint, rendered from ``scoring.yaml``: what is applied, and what `--render` writes."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import cache
from importlib.resources import files
from string import Template
from typing import Any

import yaml

from vision_mlops.core.yaml_text import write_yaml

Manifest = dict[str, Any]
MANAGED_BY = "app.kubernetes.io/managed-by"
INSTANCE = "app.kubernetes.io/instance"
OURS = f"{MANAGED_BY}=mlops,app.kubernetes.io/name=mlops-scoring"
"""Label selector of all objects of all endpoints; see :func:`selector_of` for those of one."""
ANNOTATION = "vision-mlops/"
DEFINITION = f"{ANNOTATION}definition"
"""Annotation of the Deployment with what it was rendered from, so that an update keeps what is not said anew."""
TAGS = f"{ANNOTATION}tags"
KEYS_FOLDER = "/var/run/mlops"
KEYS_ITEM = "keys"
CONTAINER = "server"
_CONTAINER_PORT = 8000
_UID = 10001  # that of the image
_INTERNAL = {"service.beta.kubernetes.io/azure-load-balancer-internal": "true"}
_DNS = {"ports": [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}]}
_HTTPS = {"ports": [{"protocol": "TCP", "port": 443}]}


@dataclass(frozen=True, slots=True)
class EndpointManifest:
    """What the manifests of an endpoint are made of.

    ``memory_gb`` is in units of 2^30 bytes, ``port`` that of the Service. With ``host`` there is an Ingress for it; without,
    ``expose`` is ``internal``, a load balancer with a private address, or ``cluster``, no address outside of the cluster.
    ``egress`` is ``none`` or ``https``.
    """

    endpoint: str
    namespace: str
    deployment: str
    model: str
    version: str
    bundle_id: str
    image: str
    host: str = ""
    port: int = 80
    expose: str = "internal"
    cpu: float = 1.0
    memory_gb: float = 2.0
    instances: int = 2
    max_instances: int = 4
    workers: int | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    ingress_class: str | None = None
    cluster_issuer: str | None = None
    egress: str = "none"
    deadline_s: int = 600

    @property
    def secret(self) -> str:
        """Name of the Secret with the keys."""
        return f"{self.endpoint}-keys"

    def to_json(self) -> str:
        """As one line, for the annotation."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> EndpointManifest:
        """Read the annotation again; what this version does not know is left out. Raises ValueError or TypeError."""
        known = {item.name for item in fields(cls)}
        return cls(**{name: value for name, value in json.loads(text).items() if name in known})


def selector_of(endpoint: str) -> str:
    """Label selector of all objects of one endpoint."""
    return f"{OURS},{INSTANCE}={endpoint}"


def render(definition: EndpointManifest, keys: Sequence[str] | None = None) -> list[Manifest]:
    """All manifests, in the order in which they are applied.

    Args:
        definition: Of the endpoint.
        keys: Those of the Secret; without them it is left out.
    """
    values = _values(definition, keys)
    made = []
    for document in _documents():
        if (document["kind"] == "Secret" and keys is None) or (document["kind"] == "Ingress" and not definition.host):
            continue
        manifest = _fill(document, values)
        metadata = manifest["metadata"]
        if document["kind"] != "Namespace":
            metadata["namespace"] = definition.namespace
            metadata["labels"] = {**values["pod_labels"], **metadata.get("labels", {})}
        made.append(manifest)
    return made


def render_text(definition: EndpointManifest) -> str:
    """The manifests as YAML documents, with how to make the Secret in front instead of the Secret.

    Without the Namespace: it may be there, with others in it that do not meet what its labels ask for.
    """
    name, namespace = definition.secret, definition.namespace
    head = [
        f"# Endpoint {definition.endpoint}: {definition.model}:{definition.version}, bundle {definition.bundle_id}.",
        "# The namespace and the Secret with the two keys, one a line, are not in here. Make them once, before the rest:",
        *([] if namespace == "default" else [f"#   kubectl create namespace {namespace}"]),
        "#   (umask 077; for n in 1 2; do openssl rand -hex 32; done > keys)",
        f"#   kubectl create secret generic {name} --namespace {namespace} --from-file={KEYS_ITEM}=keys; rm keys",
    ]
    made = [item for item in render(definition) if item["kind"] != "Namespace"]
    documents = [write_yaml(item, width=120) for item in made]
    return "\n".join(head) + "\n---\n" + "---\n".join(documents)


def encode_keys(keys: Sequence[str]) -> str:
    """Keys as the Secret holds them."""
    return base64.b64encode("".join(f"{key}\n" for key in keys).encode()).decode()


@cache
def _documents() -> tuple[Manifest, ...]:
    """The template; filling it makes copies."""
    text = files(__package__).joinpath("scoring.yaml").read_text(encoding="utf-8")
    return tuple(yaml.safe_load_all(text))


def _values(definition: EndpointManifest, keys: Sequence[str] | None) -> dict[str, Any]:
    selector = {"app.kubernetes.io/name": "mlops-scoring", INSTANCE: definition.endpoint}
    facts = {name: getattr(definition, name) for name in ("deployment", "model", "version", "bundle_id")}
    return {
        **{item.name: getattr(definition, item.name) for item in fields(definition)},
        "secret": definition.secret,
        "keys": encode_keys(keys) if keys is not None else None,
        "keys_folder": KEYS_FOLDER,
        "uid": _UID,
        "container_port": _CONTAINER_PORT,
        "deadline": definition.deadline_s,
        "host": definition.host or None,
        "cpu": f"{round(definition.cpu * 1000)}m",
        "memory": f"{round(definition.memory_gb * 1024)}Mi",
        "environment": _environment(definition),
        "selector": selector,
        "pod_labels": {
            **selector,
            "app.kubernetes.io/component": "scoring",
            "app.kubernetes.io/part-of": "vision-mlops",
            "app.kubernetes.io/version": definition.version,
            MANAGED_BY: "mlops",
        },
        "annotations": {
            **{ANNOTATION + name.replace("_", "-"): value for name, value in facts.items()},
            DEFINITION: definition.to_json(),
        },
        "service_type": "LoadBalancer" if _balanced(definition) else "ClusterIP",
        "service_annotations": _INTERNAL if _balanced(definition) else None,
        "egress": [_DNS, _HTTPS] if definition.egress == "https" else [],
    }


def _balanced(definition: EndpointManifest) -> bool:
    return not definition.host and definition.expose == "internal"


def _environment(definition: EndpointManifest) -> list[dict[str, str]]:
    own = {
        "MLOPS_SCORING_KEY_FILE": f"{KEYS_FOLDER}/{KEYS_ITEM}",
        "MLOPS_HOST": "0.0.0.0",
        "MLOPS_PORT": str(_CONTAINER_PORT),
        "MLOPS_MODEL_NAME": definition.model,
        "MLOPS_MODEL_VERSION": definition.version,
        "HOME": "/tmp",
        "MLOPS_HOME": "/tmp/mlops",
    }
    if definition.workers is not None:
        own["MLOPS_SERVING__WORKERS"] = str(definition.workers)
    return [{"name": name, "value": value} for name, value in {**definition.environment, **own}.items()]


def _fill(node: Any, values: Mapping[str, Any]) -> Any:
    """A part of a document with its placeholders filled; one that is a whole value keeps the type of what fills it."""
    if isinstance(node, dict):
        filled = {key: _fill(value, values) for key, value in node.items()}
        return {key: value for key, value in filled.items() if value is not None}
    if isinstance(node, list):
        return [_fill(item, values) for item in node]
    if not isinstance(node, str) or "$" not in node:
        return node
    name = node.removeprefix("${").removesuffix("}")
    if node == f"${{{name}}}" and name in values:
        value = values[name]
        return dict(value) if isinstance(value, Mapping) else value
    return Template(node).substitute(values)
