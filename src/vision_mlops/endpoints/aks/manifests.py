"""The manifests of an endpoint, rendered from ``scoring.yaml``, to be applied or written by `--render`."""

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
from vision_mlops.endpoints.contract import DEPLOYMENT_HEADER

Manifest = dict[str, Any]
MANAGED_BY = "app.kubernetes.io/managed-by"
INSTANCE = "app.kubernetes.io/instance"
OURS = f"{MANAGED_BY}=mlops,app.kubernetes.io/name=mlops-scoring"
"""Label selector of all objects of all endpoints; see :func:`selector_of` for those of one."""
ANNOTATION = "vision-mlops/"
DEPLOYMENT = f"{ANNOTATION}deployment"
"""Label of the objects of one deployment, if an endpoint has several; as an annotation, its name."""
DEFINITION = f"{ANNOTATION}definition"
"""Annotation of the Deployment with what it was rendered from, so that an update keeps what it does not mention."""
TAGS = f"{ANNOTATION}tags"
_VERSION = "app.kubernetes.io/version"
ROUTE = "HTTPRoute"
KEYS_FOLDER = "/var/run/mlops"
KEYS_ITEM = "keys"
CONTAINER = "server"
_CONTAINER_PORT = 8000
_UID = 10001  # the user of the image
_INTERNAL = {"service.beta.kubernetes.io/azure-load-balancer-internal": "true"}
_DNS = {"ports": [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}]}
_HTTPS = {"ports": [{"protocol": "TCP", "port": 443}]}


@dataclass(frozen=True, slots=True)
class EndpointManifest:
    """The values from which the manifests of an endpoint are rendered.

    ``memory_gb`` is in units of 2^30 bytes; ``port`` is that of the Service. With ``host``, the endpoint has an Ingress;
    without it, ``expose`` is ``internal``, a load balancer with a private address, or ``cluster``, no address outside the
    cluster. With ``gateway``, the NAMESPACE/NAME of a Gateway, it has a route instead, and may have several deployments,
    each with its own definition. ``egress`` is ``none`` or ``https``.
    """

    endpoint: str
    namespace: str
    deployment: str
    model: str
    version: str
    bundle_id: str
    image: str
    host: str = ""
    gateway: str = ""
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
    def object_name(self) -> str:
        """Name of the objects of the deployment."""
        return f"{self.endpoint}-{self.deployment}" if self.gateway else self.endpoint

    @property
    def selector(self) -> str:
        """Label selector of the objects of the deployment."""
        return selector_of(self.endpoint, self.deployment if self.gateway else "")

    @property
    def secret(self) -> str:
        """Name of the Secret with the keys."""
        return f"{self.endpoint}-keys"

    def to_json(self) -> str:
        """Return the definition on one line, for the annotation."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> EndpointManifest:
        """Parse the annotation; unknown fields are ignored. Raises ValueError or TypeError."""
        known = {item.name for item in fields(cls)}
        return cls(**{name: value for name, value in json.loads(text).items() if name in known})


def selector_of(endpoint: str, deployment: str = "") -> str:
    """Return the label selector of all objects of one endpoint, or of one of its deployments."""
    return f"{OURS},{INSTANCE}={endpoint}" + (f",{DEPLOYMENT}={deployment}" if deployment else "")


def render(definition: EndpointManifest, keys: Sequence[str] | None = None) -> list[Manifest]:
    """Return all manifests of a deployment, in the order of application, without the route (see :func:`render_route`).

    Args:
        definition: Definition of the endpoint.
        keys: Keys for the Secret; without them, the Secret is omitted.
    """
    values = _values(definition, keys)
    made = []
    for document in _documents():
        kind = document["kind"]
        if (kind == "Secret" and keys is None) or (kind == "Ingress" and not _has_ingress(definition)) or kind == ROUTE:
            continue
        made.append(_manifest(document, values, definition))
    return made


def render_route(
    definitions: Sequence[EndpointManifest], shares: Mapping[str, int], tags: Mapping[str, str] | None = None
) -> Manifest:
    """Return the route of an endpoint behind a Gateway.

    Args:
        definitions: Definitions of all its deployments.
        shares: Percentage of the requests by deployment; others get none, but respond to requests that name them.
        tags: Tags of the endpoint.
    """
    document = next(item for item in _documents() if item["kind"] == ROUTE)
    first = definitions[0]
    namespace, _, name = first.gateway.partition("/")
    values = {
        **_values(first, None),
        "gateway_namespace": namespace,
        "gateway_name": name,
        "hostnames": [first.host] if first.host else None,
        "route_annotations": {TAGS: json.dumps(dict(tags), sort_keys=True)} if tags else None,
        "rules": [*(_named_rule(each) for each in definitions), _rule(definitions, shares)],
    }
    return _manifest(document, values, first)


def route_shares(route: Manifest | None, endpoint: str) -> dict[str, int]:
    """Return the percentage of the requests by deployment, according to a route; empty without one."""
    backends = route["spec"]["rules"][-1].get("backendRefs") or [] if route else []
    return {str(item["name"]).removeprefix(f"{endpoint}-"): int(item.get("weight", 1)) for item in backends}


def _named_rule(definition: EndpointManifest) -> Manifest:
    """Return the rule for requests that name a deployment, regardless of its share."""
    rule = _rule([definition], {definition.deployment: 100})
    rule["matches"][0]["headers"] = [{"name": DEPLOYMENT_HEADER, "value": definition.deployment}]
    return rule


def _rule(definitions: Sequence[EndpointManifest], shares: Mapping[str, int]) -> Manifest:
    """Return a rule of the route. Without its own host, an endpoint is a path of the Gateway, hidden from the servers."""
    first = definitions[0]
    path = "/" if first.host else f"/{first.endpoint}"
    rule: Manifest = {"matches": [{"path": {"type": "PathPrefix", "value": path}}]}
    if not first.host:
        rewritten = {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/"}
        rule["filters"] = [{"type": "URLRewrite", "urlRewrite": {"path": rewritten}}]
    rule["backendRefs"] = [
        {"name": each.object_name, "port": each.port, "weight": shares.get(each.deployment, 0)} for each in definitions
    ]
    return rule


def _manifest(document: Manifest, values: Mapping[str, Any], definition: EndpointManifest) -> Manifest:
    """Return a filled document with namespace and labels; what deployments share only has the labels of the endpoint."""
    manifest: Manifest = _fill(document, values)
    metadata, kind = manifest["metadata"], document["kind"]
    if kind != "Namespace":
        metadata["namespace"] = definition.namespace
        shared = definition.gateway and kind in ("Secret", ROUTE)
        labels = values["shared_labels"] if shared else values["pod_labels"]
        metadata["labels"] = {**labels, **metadata.get("labels", {})}
    return manifest


def render_text(definition: EndpointManifest) -> str:
    """Return the manifests as YAML documents, with instructions to create the Secret instead of the Secret itself.

    The Namespace is omitted: it may exist already, with other objects that do not meet the requirements of its labels.
    """
    name, namespace = definition.secret, definition.namespace
    head = [
        f"# Endpoint {definition.endpoint}: {definition.model}:{definition.version}, bundle {definition.bundle_id}.",
        "# The namespace and the Secret with the two keys, one per line, are not included. Create them once, beforehand:",
        *([] if namespace == "default" else [f"#   kubectl create namespace {namespace}"]),
        "#   (umask 077; for n in 1 2; do openssl rand -hex 32; done > keys)",
        f"#   kubectl create secret generic {name} --namespace {namespace} --from-file={KEYS_ITEM}=keys; rm keys",
    ]
    made = [item for item in render(definition) if item["kind"] != "Namespace"]
    if definition.gateway:
        made.append(render_route([definition], {definition.deployment: 100}))
    documents = [write_yaml(item, width=120) for item in made]
    return "\n".join(head) + "\n---\n" + "---\n".join(documents)


def encode_keys(keys: Sequence[str]) -> str:
    """Return keys in the format of the Secret."""
    return base64.b64encode("".join(f"{key}\n" for key in keys).encode()).decode()


@cache
def _documents() -> tuple[Manifest, ...]:
    """Return the documents of the template; filling them creates copies."""
    text = files(__package__).joinpath("scoring.yaml").read_text(encoding="utf-8")
    return tuple(yaml.safe_load_all(text))


def _values(definition: EndpointManifest, keys: Sequence[str] | None) -> dict[str, Any]:
    selector = {"app.kubernetes.io/name": "mlops-scoring", INSTANCE: definition.endpoint}
    if definition.gateway:
        selector[DEPLOYMENT] = definition.deployment
    labels = {
        **selector,
        "app.kubernetes.io/component": "scoring",
        "app.kubernetes.io/part-of": "vision-mlops",
        _VERSION: definition.version,
        MANAGED_BY: "mlops",
    }
    facts = {name: getattr(definition, name) for name in ("deployment", "model", "version", "bundle_id")}
    return {
        **{item.name: getattr(definition, item.name) for item in fields(definition)},
        "object_name": definition.object_name,
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
        "shared_labels": {name: value for name, value in labels.items() if name not in (DEPLOYMENT, _VERSION)},
        "pod_labels": labels,
        "annotations": {
            **{ANNOTATION + name.replace("_", "-"): value for name, value in facts.items()},
            DEFINITION: definition.to_json(),
        },
        "service_type": "LoadBalancer" if _balanced(definition) else "ClusterIP",
        "service_annotations": _INTERNAL if _balanced(definition) else None,
        "egress": [_DNS, _HTTPS] if definition.egress == "https" else [],
    }


def _has_ingress(definition: EndpointManifest) -> bool:
    return bool(definition.host) and not definition.gateway


def _balanced(definition: EndpointManifest) -> bool:
    return not definition.host and not definition.gateway and definition.expose == "internal"


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
    """Fill the placeholders in a part of a document; a placeholder that is a whole value keeps the type of its value."""
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
