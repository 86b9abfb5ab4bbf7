"""What the target aks applies: valid for the versions of Kubernetes in use, safe, without keys, and as the options say."""

from __future__ import annotations

import base64
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import kubernetes_validate
import pytest
import yaml
from testing.support.aks_example import BEHIND_GATEWAY, EXAMPLE, EXAMPLES, FILE
from testing.support.kubernetes_gateway import validate

from vision_mlops.config.cluster_settings import VARIABLES, ClusterSettings
from vision_mlops.core.errors import ConfigError, DeploymentError
from vision_mlops.endpoints.aks.cluster_errors import explain
from vision_mlops.endpoints.aks.cluster_update import as_applied
from vision_mlops.endpoints.aks.endpoint_definition import define, image_of
from vision_mlops.endpoints.aks.manifests import (
    EndpointManifest,
    Manifest,
    render,
    render_route,
    render_text,
    route_shares,
)
from vision_mlops.endpoints.contract import DeploymentOptions, DeploymentRequest
from vision_mlops.endpoints.deployment import render as render_request
from vision_mlops.endpoints.targets import open_target
from vision_mlops.registry import ModelVersion, Registry

ROOT = FILE.parents[2]
KEYS = ["first-key", "second-key"]
PLAIN = replace(EXAMPLE, host="", ingress_class=None, cluster_issuer=None)


def by_kind(definition: EndpointManifest = EXAMPLE) -> dict[str, Manifest]:
    return {item["kind"]: item for item in render(definition, KEYS)}


def request(**options: Any) -> DeploymentRequest:
    model = ModelVersion("Textile_2", 3, bundle_id="0123456789abcdef")
    return DeploymentRequest("textile", "version-3", model, cast(Registry, None), DeploymentOptions(**options))


@pytest.mark.parametrize("version", ["1.33", "1.35", "1.37"])
def test_manifests_are_valid(version: str) -> None:
    definitions = [
        EXAMPLE,
        PLAIN,
        BEHIND_GATEWAY,
        replace(PLAIN, expose="cluster", egress="https", workers=3, environment={"A": "b"}),
    ]
    for definition in definitions:
        for manifest in render(definition, KEYS):
            kubernetes_validate.validate(manifest, version, strict=True)


def test_pods_are_as_restricted_as_they_can_be() -> None:
    pod = by_kind()["Deployment"]["spec"]["template"]["spec"]
    container = pod["containers"][0]
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False, "privileged": False, "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }  # fmt: skip
    sleep = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod["terminationGracePeriodSeconds"] > sleep + 30, "the server's time to drain"
    assert "replicas" not in by_kind()["Deployment"]["spec"], "the autoscaler's"


def test_keys_are_in_the_secret_alone() -> None:
    found = by_kind()
    assert base64.b64decode(found["Secret"]["data"]["keys"]).decode() == "first-key\nsecond-key\n"
    encoded = found["Secret"]["data"]["keys"]
    rest = yaml.safe_dump([item for kind, item in found.items() if kind != "Secret"])
    assert not [text for text in (*KEYS, encoded) if text in rest]
    assert "Secret" not in {item["kind"] for item in yaml.safe_load_all(render_text(EXAMPLE))}
    assert "kubectl create secret generic textile-keys --namespace vision" in render_text(EXAMPLE)


def test_a_value_cannot_change_the_structure() -> None:
    evil = 'x"\n  hostNetwork: true\n${keys}: {}'
    pod = by_kind(replace(EXAMPLE, image=evil, environment={"A": "${keys}"}))["Deployment"]["spec"]["template"]["spec"]
    assert pod["containers"][0]["image"] == evil
    assert {"name": "A", "value": "${keys}"} in pod["containers"][0]["env"]
    assert "hostNetwork" not in pod


def test_what_depends_on_the_host() -> None:
    found = by_kind()
    assert found["Ingress"]["spec"]["tls"] == [{"hosts": ["textile.ml.example.org"], "secretName": "textile-tls"}]
    assert found["Ingress"]["metadata"]["annotations"]["cert-manager.io/cluster-issuer"] == "letsencrypt"
    assert found["Service"]["spec"]["type"] == "ClusterIP"
    plain = by_kind(PLAIN)
    assert "Ingress" not in plain
    assert plain["Service"]["spec"]["type"] == "LoadBalancer"
    internal = {"service.beta.kubernetes.io/azure-load-balancer-internal": "true"}
    assert plain["Service"]["metadata"]["annotations"] == internal, "plain HTTP does not leave the virtual network"
    assert by_kind(replace(PLAIN, expose="cluster"))["Service"]["spec"]["type"] == "ClusterIP"


def test_the_examples_are_up_to_date() -> None:
    for file, definition in EXAMPLES.items():
        assert file.read_text(encoding="utf-8") == render_text(definition), "python -m testing.support.aks_example"


def test_versions_behind_a_gateway_do_not_mix() -> None:
    other = replace(BEHIND_GATEWAY, deployment="version-4", port=81)
    first, second = by_kind(BEHIND_GATEWAY), by_kind(other)
    for kind in ("Deployment", "Service", "HorizontalPodAutoscaler", "PodDisruptionBudget", "NetworkPolicy"):
        assert first[kind]["metadata"]["name"] != second[kind]["metadata"]["name"]
    assert first["Service"]["spec"]["selector"] != second["Service"]["spec"]["selector"]
    assert first["Secret"] == second["Secret"], "one key for all"
    assert "Ingress" not in first
    route = render_route([BEHIND_GATEWAY, other], {"version-4": 10, "version-3": 90}, {"a": "b"})
    validate(route)
    assert route_shares(route, "textile") == {"version-3": 90, "version-4": 10}
    assert [item["port"] for item in route["spec"]["rules"][-1]["backendRefs"]] == [80, 81]
    headers = [rule["matches"][0].get("headers", [{}])[0].get("value") for rule in route["spec"]["rules"]]
    assert headers == ["version-3", "version-4", None]
    path = render_route([replace(BEHIND_GATEWAY, host="")], {"version-3": 100})["spec"]
    validate({"kind": "HTTPRoute", "metadata": {"name": "textile"}, "spec": path})
    assert "hostnames" not in path
    assert path["rules"][-1]["matches"] == [{"path": {"type": "PathPrefix", "value": "/textile"}}]


def test_a_definition_survives_its_annotation() -> None:
    assert EndpointManifest.from_json(EXAMPLE.to_json()) == EXAMPLE
    with pytest.raises(TypeError):
        EndpointManifest.from_json("{}")


def test_an_update_keeps_what_is_not_said() -> None:
    settings = ClusterSettings.load(environ={"MLOPS_AKS_DOMAIN": "ml.example.org", "MLOPS_AKS_EGRESS": "https"})
    first = define(request(cpu=0.5, port=81), settings, "vision", "image:1", None)
    assert (first.host, first.egress, first.max_instances) == ("textile.ml.example.org", "https", 4)
    unset = ClusterSettings.load(environ={})
    second = define(request(instances=5), unset, "vision", "image:2", replace(first, deadline_s=5))
    assert (second.egress, second.deadline_s) == ("https", 600), "a timeout is of one deploy"
    third = define(request(), ClusterSettings.load(environ={"MLOPS_AKS_EGRESS": "none"}), "vision", "image:2", second)
    assert third == replace(second, egress="none")
    assert (second.image, second.cpu, second.port, second.host) == ("image:2", 0.5, 81, first.host)
    assert (second.instances, second.max_instances) == (5, 10)
    bounded = ClusterSettings.load(environ={"MLOPS_AKS_MAX_INSTANCES": "4"})
    with pytest.raises(DeploymentError, match="--instances 5 is more than MLOPS_AKS_MAX_INSTANCES=4"):
        define(request(), bounded, "vision", "image:2", second)
    with pytest.raises(DeploymentError, match="is not the name of a host"):
        define(request(host="https://a.b"), settings, "vision", "image:2", None)


def test_the_image_has_the_name_that_baking_gives_it() -> None:
    settings = ClusterSettings.load(environ={"MLOPS_AZURE_CONTAINER_REGISTRY": "crvision.azurecr.io"})
    assert image_of(request(), settings) == "crvision.azurecr.io/mlops-textile_2:3-0123456789ab"
    assert image_of(request(image="own:1"), settings) == "own:1"
    with pytest.raises(DeploymentError, match="no image to run"):
        image_of(request(), ClusterSettings.load(environ={}))


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"MLOPS_AKS_DOMAINE": "a.b"}, "did you mean MLOPS_AKS_DOMAIN?"),
        ({"MLOPS_AKS_EXPOSE": "public"}, "MLOPS_AKS_EXPOSE='public' (environment) is not valid"),
        ({"MLOPS_AKS_NAMESPACE": "Vision"}, "write it like vision"),
        ({"MLOPS_AKS_MAX_INSTANCES": "0"}, "write it like 4"),
        ({"MLOPS_AKS_GATEWAY": "mlops"}, "write it like mlops-gateway/mlops"),
    ],
    ids=["unknown", "public", "namespace", "none", "gateway"],
)
def test_settings_that_are_wrong(environ: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        ClusterSettings.load(environ=environ)
    assert message in str(caught.value)


def test_the_example_file_has_every_setting(tmp_path: Path) -> None:
    text = (ROOT / ".env.example").read_text(encoding="utf-8")
    file = tmp_path / ".env"
    file.write_text(text.replace("# MLOPS_A", "MLOPS_A"))
    assert all(f"\n# {name}=" in text for name in VARIABLES)
    found = ClusterSettings.load(env_file=file, environ={"MLOPS_AKS_CONTEXT": "other"})
    assert (found.context, found.namespace) == ("other", "vision"), "the environment wins"


def test_what_the_cluster_writes_is_not_applied_again() -> None:
    live: Manifest = by_kind()["Deployment"]
    wanted = yaml.safe_load(yaml.safe_dump(live))
    live["metadata"] |= {"uid": "u", "resourceVersion": "7", "generation": 2, "managedFields": [{}]}
    live["metadata"]["annotations"] |= {"deployment.kubernetes.io/revision": "3", "vision-mlops/tags": "{}"}
    live["spec"]["replicas"] = 3
    live["spec"]["template"]["metadata"]["creationTimestamp"] = None
    live["status"] = {"replicas": 3}
    assert as_applied(live) == wanted


@pytest.mark.parametrize(
    ("status", "message", "fix"),
    [
        (403, "pods is forbidden: exceeded quota: team, requested: cpu=2", "raise the ResourceQuota"),
        (403, "maximum cpu usage per Container is 1, but limit is 2", "LimitRange"),
        (400, 'admission webhook "a.b" denied the request: no', "a policy of the cluster"),
        (403, 'pods "a" is forbidden: violates PodSecurity "restricted:latest"', "injected sidecar"),
        (403, "secrets is forbidden", "ask for a role"),
        (409, "the object has been modified", "try again"),
        (503, "etcdserver: request timed out", "try again"),
    ],
    ids=["quota", "limits", "webhook", "pod-security", "rbac", "changed", "busy"],
)
def test_refusals_have_a_fix(status: int, message: str, fix: str) -> None:
    text, hint = explain(status, {"message": message})
    assert text == message
    assert fix in hint


def test_a_refused_secret_is_not_repeated() -> None:
    text, _hint = explain(422, {"message": "data: Invalid value: Zmlyc3Qta2V5"}, secret=True)
    assert text == "the API refuses the object"


def test_rendering_is_for_targets_with_manifests() -> None:
    with pytest.raises(DeploymentError, match="--render: not available with --to docker"):
        render_request(open_target("docker"), request())
    assert open_target("aks").splits_traffic is False
