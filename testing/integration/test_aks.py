"""The target aks over the command line: the real Kubernetes client, a loopback cluster, and pods that are real servers."""

from __future__ import annotations

import json
import re
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image
from testing.support.aks_example import EXAMPLE
from testing.support.bundles import make_bundle
from testing.support.kubernetes_api import TOKEN, KubernetesCluster, kubernetes_cluster
from testing.support.kubernetes_balancer import free_port
from testing.support.prepared_data import COLOURS

from vision_mlops.core.errors import ConfigError
from vision_mlops.endpoints.aks.cluster import KubernetesCluster as Client
from vision_mlops.endpoints.aks.manifests import render
from vision_mlops.endpoints.contract import Access
from vision_mlops.endpoints.scoring_client import score
from vision_mlops.endpoints.targets import open_target

REGISTRY = "crvision.azurecr.io"
pytestmark = pytest.mark.slow
Mlops = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def models(store_template: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path | str]:
    """A home with two registered versions; gives their bundles by image."""
    from vision_mlops.registry import open_registry

    home = tmp_path_factory.mktemp("aks") / "home"
    home.mkdir()
    (home / "mlflow.db").write_bytes(store_template.read_bytes())
    images: dict[str, Path | str] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLOPS_HOME", str(home))
        registry = open_registry("mlflow")
        for swap in (False, True):
            folder = make_bundle(home.parent / f"bundle-{swap}", swap=swap)
            version = registry.register(folder, "colours")
            images[f"{REGISTRY}/mlops-colours:{version.version}-{version.bundle_id}"] = folder
    images["home"] = str(home)
    return images


@pytest.fixture
def cluster(
    models: dict[str, Path | str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[KubernetesCluster]:
    """A cluster that has the images of both versions; the environment points to it."""
    with kubernetes_cluster(tmp_path) as running:
        running.control.images = {image: bundle for image, bundle in models.items() if image != "home"}
        monkeypatch.setenv("MLOPS_HOME", str(models["home"]))
        monkeypatch.setenv("KUBECONFIG", str(running.kubeconfig))
        monkeypatch.setenv("MLOPS_AZURE_CONTAINER_REGISTRY", REGISTRY)
        yield running


def deploy(mlops: Mlops, version: int = 1, *words: str) -> tuple[int, str, str]:
    return mlops("deploy", "--to", "aks", "--model", f"colours:{version}", "--instances", "1", *words)


def listed(mlops: Mlops) -> list[dict[str, Any]]:
    code, out, err = mlops("endpoint", "list", "--on", "aks", "--json")
    assert code == 0, err
    found: list[dict[str, Any]] = json.loads(out)
    return found


def image_file(folder: Path) -> Path:
    file = folder / "blue.png"
    Image.new("RGB", (40, 40), COLOURS["blue"]).save(file)
    return file


class Clients:
    """Clients that send an image after the other, each time over a new connection, until told to stop."""

    def __init__(self, access: Access, image: bytes, clients: int = 2) -> None:
        self._access, self._image = access, image
        self.labels: Counter[str] = Counter()
        self.problems: list[str] = []
        self._ending = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(clients)]

    def __enter__(self) -> Clients:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        for thread in self._threads:
            thread.join(30)

    def _run(self) -> None:
        while not self._ending.wait(0.01):
            answer = score(self._access, self._image, "image/png")
            if answer.ok:
                self.labels[answer.label] += 1
            else:
                self.problems.append(f"{answer.status} {answer.problem}")


def test_an_endpoint_from_its_first_deploy_to_its_end(
    mlops: Mlops, cluster: KubernetesCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port, image = free_port(), image_file(tmp_path)
    monkeypatch.setattr("vision_mlops.endpoints.aks.cluster_update._ADDRESS_SECONDS", 0.1)
    cluster.control.gives_addresses = False
    code, out, err = deploy(mlops, 1, "--port", str(port), "--workers", "1", "--cpu", "0.5")
    assert code == 0, err
    assert "the load balancer has no address yet; MLOPS_AKS_EXPOSE=cluster is for clusters without one" in err
    code, _out, err = mlops("endpoint", "test", "colours", "--image", str(image))
    assert (code, f"kubectl port-forward --namespace vision service/colours 8000:{port}" in err) == (2, True)
    cluster.control.gives_addresses = True
    code, out, err = deploy(mlops, 1)
    assert code == 0, err
    wait(lambda: listed(mlops)[0]["url"] == f"http://127.0.0.1:{port}/score")
    [endpoint] = listed(mlops)
    assert (endpoint["state"], endpoint["problem"]) == ("ready", "")
    assert [(item["name"], item["version"]) for item in endpoint["deployments"]] == [("version-1", "1")]

    code, out, err = mlops("endpoint", "test", "colours", "--image", str(image), "--json")
    assert code == 0, err
    assert json.loads(out)[0]["label"] == "blue"
    # Requests are written to the log some ten times a second.
    wait(lambda: '"path":"/score","status":200' in mlops("endpoint", "logs", "colours")[1])

    keys = open_target("aks").keys("colours")
    assert len({*keys.values()}) == 2
    pods = list(cluster.control.pods)
    answers = [score(Access(endpoint["url"], {"X-Api-Key": key}), image.read_bytes()) for key in (*keys.values(), "x")]
    assert [answer.status for answer in answers] == [200, 200, 401]
    assert (answers[0].body["model"]["name"], answers[0].body["model"]["version"]) == ("colours", "1")
    code, _out, err = mlops("endpoint", "keys", "colours", "--rotate", "primary")
    assert code == 0, err
    deadline = time.monotonic() + 60
    while score(Access(endpoint["url"], {"X-Api-Key": keys["primary"]}), image.read_bytes()).status != 401:
        assert time.monotonic() < deadline, "the former key is still valid"
        time.sleep(0.1)
    now = open_target("aks").keys("colours")
    assert now["secondary"] == keys["secondary"]
    assert list(cluster.control.pods) == pods, "no pod was started for the new key"
    secrets = {*keys.values(), *now.values()}

    # What is not said again stays: the port and so the address, the size.
    target = open_target("aks")
    target.set_tags("colours", {"mlops.note": "a=b"})
    with Clients(target.access("colours"), image.read_bytes()) as clients:
        code, out, err = deploy(mlops, 2)
        assert code == 0, err
        time.sleep(0.3)
    assert clients.problems == []
    assert set(clients.labels) == {"blue", "green"}, "both versions have answered"
    [endpoint] = listed(mlops)
    assert (endpoint["state"], endpoint["url"]) == ("ready", f"http://127.0.0.1:{port}/score")
    assert [item["name"] for item in endpoint["deployments"]] == ["version-2"]
    assert endpoint["tags"] == {"mlops.note": "a=b"}
    assert open_target("aks").keys("colours") == now
    [pod] = [pod for pod in cluster.control.pods.values() if pod.ready]
    assert pod.container["resources"]["limits"]["cpu"] == "500m"

    # A version whose image is missing: the one before goes on, and nothing of the other is left.
    served = pod.name
    code, out, err = deploy(mlops, 1, "--image", f"{REGISTRY}/mlops-colours:none", "--timeout", "20")
    assert code == 2
    assert "mlops-colours:none cannot be pulled (ImagePullBackOff)" in err
    assert "the former version is still served" in err
    wait(lambda: list(cluster.control.pods) == [served])
    [endpoint] = listed(mlops)
    assert (endpoint["state"], endpoint["deployments"][0]["name"]) == ("ready", "version-2")
    assert endpoint["tags"] == {"mlops.note": "a=b"}
    assert mlops("endpoint", "test", "colours", "--image", str(image))[0] == 0

    sets = len(cluster.store.list("replicasets"))
    assert deploy(mlops, 2)[0] == 0, "the same again"
    assert (list(cluster.control.pods), len(cluster.store.list("replicasets"))) == ([served], sets)

    # Someone else's change is shown as it is, and not overwritten.
    live = cluster.store.get("deployments", "vision", "colours")
    live["spec"]["template"]["spec"]["containers"][0]["image"] = "elsewhere:1"
    body = {key: live[key] for key in ("apiVersion", "kind", "spec")} | {"metadata": {"name": "colours"}}
    cluster.store.apply("deployments", "vision", "colours", body, "kubectl-set", force=True)
    wait(lambda: listed(mlops)[0]["state"] == "failed")
    [endpoint] = listed(mlops)
    assert endpoint["problem"] == "its former version is still served"
    assert "its image elsewhere:1 cannot be pulled" in endpoint["deployments"][0]["problem"]
    code, _out, err = deploy(mlops, 2)
    assert (code, "other tools own some of its fields: kubectl-set has " in err) == (2, True)

    assert mlops("endpoint", "delete", "colours")[0] == 0
    assert listed(mlops) == []
    left = {plural for plural, namespace, _ in cluster.store.objects if namespace == "vision"} - {"events"}
    assert left == set()
    sent = [body for _, plural, body in cluster.requests if plural != "secrets"]
    assert not [body for body in sent if any(key in body for key in secrets)], "keys are nowhere but in the Secret"


def wait(until: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < deadline
        time.sleep(0.03)


GATEWAY = "mlops-gateway/mlops"


@pytest.fixture
def gateway(cluster: KubernetesCluster, monkeypatch: pytest.MonkeyPatch) -> int:
    """A Gateway, named by the environment; gives its port."""
    port = free_port()
    namespace, name = GATEWAY.split("/")
    listener = {"name": "http", "port": port, "protocol": "HTTP"}
    body = {
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": {"name": name},
        "spec": {"gatewayClassName": "approuting-istio", "listeners": [listener]},
    }  # fmt: skip
    cluster.store.put("namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
    cluster.store.apply("gateways", namespace, name, body, "infrastructure", force=False)
    monkeypatch.setenv("MLOPS_AKS_GATEWAY", GATEWAY)
    return port


def shares(endpoint: dict[str, Any]) -> dict[str, int]:
    return {item["name"]: item["traffic"] for item in endpoint["deployments"]}


def test_versions_behind_a_gateway_share_the_traffic(
    mlops: Mlops, cluster: KubernetesCluster, gateway: int, tmp_path: Path
) -> None:
    image = image_file(tmp_path)
    code, _out, err = deploy(mlops, 1, "--workers", "1", "--cpu", "0.5")
    assert code == 0, err
    [endpoint] = listed(mlops)
    assert endpoint["url"] == f"http://127.0.0.1:{gateway}/colours/score"
    assert (endpoint["state"], shares(endpoint)) == ("ready", {"version-1": 100})
    target = open_target("aks")
    target.set_tags("colours", {"mlops.note": "a=b"})

    code, _out, err = deploy(mlops, 2, "--traffic", "0", "--keep")
    assert code == 0, err
    assert shares(listed(mlops)[0]) == {"version-1": 100, "version-2": 0}
    access, content = target.access("colours"), image.read_bytes()
    assert {score(access, content, "image/png").label for _ in range(20)} == {"blue"}
    assert score(access, content, "image/png", "version-2").label == "green", "one that is asked for by its name"
    [candidate] = [pod for pod in cluster.control.pods.values() if "version-2" in pod.name]
    assert candidate.container["resources"]["limits"]["cpu"] == "500m", "what is not said is as with the other one"

    with Clients(access, content) as clients:
        assert mlops("endpoint", "traffic", "colours", "version-1=75", "version-2=25")[0] == 0
        labels = Counter(score(access, content, "image/png").label for _ in range(40))
        assert mlops("endpoint", "traffic", "colours", "version-2=100")[0] == 0
        wait(lambda: score(access, content, "image/png").label == "green")
        assert open_target("aks").endpoint("colours").tags == {"mlops.note": "a=b"}, "kept with each change"
        code, _out, err = mlops("endpoint", "delete", "colours", "--deployment", "version-1")
        assert code == 0, err
    assert clients.problems == []
    assert 3 <= labels["green"] <= 20
    [endpoint] = listed(mlops)
    assert (endpoint["state"], shares(endpoint)) == ("ready", {"version-2": 100})
    for words in (("version-2=50",), ("version-1=100",)):
        assert mlops("endpoint", "traffic", "colours", *words)[0] == 2
    assert "version-2" in (err := mlops("endpoint", "delete", "colours", "--deployment", "version-2")[2]), err

    keys = target.keys("colours")
    assert mlops("endpoint", "delete", "colours")[0] == 0
    left = {plural for plural, namespace, _ in cluster.store.objects if namespace == "vision"} - {"events"}
    assert left == set()
    sent = [body for _, plural, body in cluster.requests if plural != "secrets"]
    assert not [body for body in sent if any(key in body for key in keys.values())]


def test_a_rollout_on_plain_kubernetes(
    mlops: Mlops, cluster: KubernetesCluster, gateway: int, models: dict[str, Path | str]
) -> None:
    small = ("--workers", "1", "--cpu", "0.5")
    assert deploy(mlops, 1, *small)[0] == 0
    quick = ("--steps", "50,100", "--min-requests", "10", "--min-seconds", "1", "--max-latency-ratio", "20")
    code, out, err = mlops("rollout", "start", "colours", "--model", "colours:2", "--max-disagreement", "1", *quick)
    assert code == 0, out + err
    [endpoint] = listed(mlops)
    assert (endpoint["state"], shares(endpoint), endpoint["tags"]) == ("ready", {"version-2": 100}, {})
    code, out, err = mlops("rollout", "start", "colours", "--model", "colours:1", "--max-disagreement", "0", *quick)
    assert code == 1, out + err
    [endpoint] = listed(mlops)
    assert shares(endpoint) == {"version-2": 100}, "rolled back, and the candidate is gone"
    assert not [name for name in cluster.control.pods if "version-1" in name]


def test_a_candidate_that_does_not_get_ready_leaves_nothing(
    mlops: Mlops, cluster: KubernetesCluster, gateway: int
) -> None:
    missing = ("--image", f"{REGISTRY}/mlops-colours:none", "--timeout", "20")
    assert deploy(mlops, 1, *missing)[0] == 2
    left = {plural for plural, namespace, _ in cluster.store.objects if namespace == "vision"} - {"events"}
    assert left == set()
    assert deploy(mlops, 1)[0] == 0
    before = sorted(key for key in cluster.store.objects if key[1] == "vision" and key[0] not in ("events", "pods"))
    code, _out, err = deploy(mlops, 2, *missing)
    assert (code, "removing version-2" in err) == (2, True), err
    now = sorted(key for key in cluster.store.objects if key[1] == "vision" and key[0] not in ("events", "pods"))
    assert now == before
    assert shares(listed(mlops)[0]) == {"version-1": 100}


def test_a_route_that_the_gateway_refuses(mlops: Mlops, cluster: KubernetesCluster, gateway: int) -> None:
    cluster.control.refuses_routes = "no listener allows this namespace"
    code, _out, err = deploy(mlops, 1)
    assert (code, f"Gateway {GATEWAY} does not accept the route of 'colours': no listener allows" in err) == (
        2,
        True,
    ), err
    left = {plural for plural, namespace, _ in cluster.store.objects if namespace == "vision"} - {"events"}
    assert left == set()


def test_no_such_gateway(mlops: Mlops, cluster: KubernetesCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLOPS_AKS_GATEWAY", "vision/none")
    code, _out, err = deploy(mlops, 1)
    assert (code, "namespace vision has no Gateway none" in err) == (2, True), err
    assert not [verb for verb, plural, _ in cluster.requests if verb in ("patch", "create")]


def test_an_endpoint_is_behind_a_gateway_or_not(
    mlops: Mlops, cluster: KubernetesCluster, gateway: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert deploy(mlops, 1)[0] == 0
    monkeypatch.delenv("MLOPS_AKS_GATEWAY")
    code, _out, err = deploy(mlops, 2)
    assert (code, f"export MLOPS_AKS_GATEWAY={GATEWAY}" in err) == (2, True), err
    monkeypatch.setenv("MLOPS_AKS_EXPOSE", "cluster")
    assert deploy(mlops, 1, "--endpoint", "plain")[0] == 0
    monkeypatch.setenv("MLOPS_AKS_GATEWAY", GATEWAY)
    code, _out, err = deploy(mlops, 2, "--endpoint", "plain")
    assert (code, "endpoint 'plain' is not behind a Gateway" in err) == (2, True), err
    code, _out, err = mlops("endpoint", "traffic", "plain", "version-1=100")
    assert (code, "as it is not behind a Gateway" in err) == (2, True), err
    code, _out, err = deploy(mlops, 1, "--endpoint", "a" * 32, "--deployment", "b" * 32)
    assert (code, "is longer than 63 characters" in err) == (2, True), err


def test_a_server_that_ends_is_told_with_its_log(mlops: Mlops, cluster: KubernetesCluster, tmp_path: Path) -> None:
    image = f"{REGISTRY}/broken:1"
    cluster.control.images[image] = tmp_path / "nothing"
    code, _out, err = deploy(mlops, 1, "--endpoint", "broken", "--image", image, "--timeout", "60")
    assert code == 2
    assert re.search(r"its server ended [2-9] times \(CrashLoopBackOff\) with exit code 2", err), err
    assert "its log ends with" in err
    assert f"{tmp_path / 'nothing'}" in err, "the server's own words"
    assert "it was removed again" in err
    assert listed(mlops) == []


def test_an_image_that_is_refused_is_told_with_how_to_let_the_cluster_pull(
    mlops: Mlops, cluster: KubernetesCluster
) -> None:
    image = f"{REGISTRY}/private:1"
    cluster.control.images[image] = f"failed to authorize: {image}: 401 Unauthorized"
    code, _out, err = deploy(mlops, 1, "--image", image)
    assert code == 2
    assert "cannot be pulled" in err
    assert "az aks update --name CLUSTER --resource-group GROUP --attach-acr REGISTRY" in err
    wait(lambda: not cluster.control.pods)
    assert listed(mlops) == []
    assert not cluster.store.list("secrets"), "nothing is left"


def test_a_pod_that_no_node_takes(mlops: Mlops, cluster: KubernetesCluster) -> None:
    code, _out, err = deploy(mlops, 1, "--cpu", "8", "--timeout", "2")
    assert code == 2
    assert "version-1 did not become ready" in err
    assert ": no node accepts its pod: 0/1 nodes are available: 1 Insufficient cpu." in err
    assert "use less with --cpu, or add nodes" in err
    assert listed(mlops) == []


def test_a_quota_that_is_used_up(mlops: Mlops, cluster: KubernetesCluster) -> None:
    cluster.control.quota = 0
    code, _out, err = deploy(mlops, 1)
    assert code == 2
    assert "its pods cannot be created" in err
    assert "exceeded quota: team" in err
    assert "raise the ResourceQuota" in err


@pytest.mark.parametrize(
    ("forbidden", "expected"),
    [
        (
            ("patch", "deployments"),
            'applying Deployment colours: deployments.apps is forbidden: User "dev" cannot patch',
        ),
        (("list", "secrets"), "listing Secrets in namespace vision: secrets is forbidden"),
        (("create", "secrets"), "creating Secret colours-keys: secrets is forbidden"),
    ],
    ids=["deployments", "list-secrets", "create-secrets"],
)
def test_what_the_user_may_not_do(
    mlops: Mlops, cluster: KubernetesCluster, forbidden: tuple[str, str], expected: str
) -> None:
    cluster.forbidden.add(forbidden)
    code, _out, err = deploy(mlops, 1)
    assert code == 2
    assert expected in err
    assert "ask for a role in the namespace" in err
    made = {plural for plural, namespace, _ in cluster.store.objects if namespace == "vision"}
    assert made == set(), "nothing is left"


def test_without_the_right_to_see_other_namespaces_the_own_one_is_listed(
    mlops: Mlops, cluster: KubernetesCluster
) -> None:
    cluster.forbidden.add(("list everywhere", "deployments"))
    assert listed(mlops) == []
    code, _out, err = mlops("endpoint", "show", "colours", "--on", "aks")
    assert (code, "no endpoint 'colours' exists in the visible part of the cluster" in err) == (2, True), err


def test_a_policy_of_the_cluster(mlops: Mlops, cluster: KubernetesCluster) -> None:
    cluster.denials["Service"] = "services need the label cost-center"
    cluster.control.quota = 0
    code, _out, err = deploy(mlops, 1)
    assert code == 2
    assert "denied the request: services need the label cost-center" in err
    assert "a policy of the cluster refuses this" in err
    assert listed(mlops) == []


def test_fields_that_another_tool_owns(mlops: Mlops, cluster: KubernetesCluster) -> None:
    labels = {"app.kubernetes.io/managed-by": "argocd"}
    body = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "colours", "labels": labels}}
    cluster.store.apply("serviceaccounts", "vision", "colours", body, "argocd-controller", force=False)
    code, _out, err = deploy(mlops, 1)
    assert code == 2
    assert "applying ServiceAccount colours: other tools own some of its fields: argocd-controller has " in err
    assert "let one tool manage the endpoint" in err
    assert [item["metadata"]["labels"] for item in cluster.store.list("serviceaccounts")] == [labels]


def test_a_deployment_of_someone_else_is_not_taken_over(mlops: Mlops, cluster: KubernetesCluster) -> None:
    pod = {"containers": [{"name": "a", "image": "b"}]}
    spec: dict[str, Any] = {
        "selector": {"matchLabels": {"a": "b"}},
        "template": {"metadata": {"labels": {"a": "b"}}, "spec": pod},
    }
    spec["strategy"] = {"rollingUpdate": {"maxSurge": 1}}
    cluster.control.quota = 0
    body = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "colours"}, "spec": spec}
    spec["progressDeadlineSeconds"] = 600
    cluster.store.apply("deployments", "vision", "colours", body, "kubectl", force=False)
    code, _out, err = deploy(mlops, 1)
    assert (code, "was not created by mlops" in err) == (2, True)


def test_a_sign_in_that_has_ended(mlops: Mlops, cluster: KubernetesCluster) -> None:
    text = cluster.kubeconfig.read_text()
    cluster.kubeconfig.write_text(text.replace("loopback-token", "old-token"))
    code, _out, err = mlops("endpoint", "list", "--on", "aks")
    assert code == 2
    assert "does not accept the sign-in" in err
    assert "kubelogin convert-kubeconfig" in err


@pytest.mark.parametrize("works", [True, False], ids=["signs-in", "fails"])
def test_the_sign_in_by_a_plugin(mlops: Mlops, cluster: KubernetesCluster, tmp_path: Path, works: bool) -> None:
    credential = {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": {"token": TOKEN}}
    plugin = tmp_path / "kubelogin"
    plugin.write_text(
        f"#!/bin/sh\necho '{json.dumps(credential)}'\n" if works else "#!/bin/sh\necho token has expired >&2\nexit 1\n"
    )
    plugin.chmod(0o755)
    content = yaml.safe_load(cluster.kubeconfig.read_text())
    content["users"][0]["user"] = {
        "exec": {"apiVersion": credential["apiVersion"], "command": str(plugin), "interactiveMode": "Never"}
    }
    cluster.kubeconfig.write_text(yaml.safe_dump(content))
    code, _out, err = mlops("endpoint", "list", "--on", "aks")
    assert (code, "token has expired" in err) == ((0, False) if works else (2, True)), err
    assert "ERROR" not in err


def test_endpoints_that_others_have_applied(
    mlops: Mlops, cluster: KubernetesCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.control.quota = 0
    inside = replace(EXAMPLE, endpoint="inside", host="", expose="cluster")
    elsewhere = replace(EXAMPLE, namespace="default")
    for definition in (EXAMPLE, inside, elsewhere):
        for item in render(definition, ["one", "two"]):
            if item["kind"] in ("Deployment", "Service", "Secret"):
                plural = item["kind"].lower() + "s"
                cluster.store.apply(plural, definition.namespace, item["metadata"]["name"], item, "gitops", force=False)
    found = {(item["name"], item["url"]) for item in listed(mlops)}
    assert found == {("inside", ""), ("textile", "https://textile.ml.example.org/score")}
    code, _out, err = mlops("endpoint", "show", "inside", "--on", "aks")
    assert (code, "it can only be called from within the cluster" in err) == (0, True)
    assert "exceeded quota" in err
    code, _out, err = mlops("endpoint", "keys", "textile", "--rotate", "primary", "--on", "aks")
    assert (code, "is in the namespaces default and vision" in err) == (2, True)
    monkeypatch.setenv("MLOPS_AKS_NAMESPACE", "default")
    assert mlops("endpoint", "keys", "textile", "--rotate", "primary", "--on", "aks")[0] == 0
    assert open_target("aks").keys("textile")["secondary"] == "two"
    monkeypatch.setenv("MLOPS_AKS_NAMESPACE", "vision")
    assert open_target("aks").keys("textile")["primary"] == "one"


def test_a_cluster_that_does_not_answer(mlops: Mlops, cluster: KubernetesCluster) -> None:
    text = cluster.kubeconfig.read_text()
    cluster.kubeconfig.write_text(text.replace(cluster.address, f"https://127.0.0.1:{free_port()}"))
    code, _out, err = mlops("endpoint", "list", "--on", "aks")
    assert (code, "the cluster cannot be reached" in err) == (2, True), err


@pytest.mark.parametrize("variable", ["KUBECONFIG", "MLOPS_AKS_CONTEXT"])
def test_no_cluster_is_named(
    mlops: Mlops, cluster: KubernetesCluster, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, "nowhere")
    code, _out, err = mlops("endpoint", "list", "--on", "aks")
    assert (code, "no cluster to use" in err) == (2, True), err
    assert "sign in again" not in err, "there is nothing to sign in to"


NO_CLUSTER = {
    "empty": ("", "is empty", "add a cluster: az aks get-credentials"),
    "no contexts": (
        "{apiVersion: v1, kind: Config, clusters: [], contexts: [], users: []}",
        "has no current context",
        "add a cluster: az aks get-credentials",
    ),
    "no YAML": ("{:::", "is not valid YAML", "write it again: az aks get-credentials"),
}


@pytest.mark.parametrize(("content", "problem", "hint"), NO_CLUSTER.values(), ids=list(NO_CLUSTER))
def test_a_kubeconfig_without_a_cluster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str, problem: str, hint: str
) -> None:
    file = tmp_path / "kubeconfig"
    monkeypatch.setenv("KUBECONFIG", str(file))
    with pytest.raises(ConfigError, match=r"the kubeconfig .* does not exist\n  -> create a cluster, and let `az aks"):
        Client()
    file.write_text(content)
    with pytest.raises(ConfigError, match=problem) as caught:
        Client()
    assert hint in caught.value.hint
    assert "sign in again" not in caught.value.hint


def test_a_new_namespace_and_no_address_outside(
    mlops: Mlops, cluster: KubernetesCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLOPS_AKS_EXPOSE", "cluster")
    cluster.control.cores = 0.1
    code, _out, err = deploy(mlops, 1, "--namespace", "team", "--timeout", "1")
    assert (code, "creating namespace team" in err) == (2, True)
    assert cluster.store.get("namespaces", "", "team")["metadata"]["labels"] == {
        "pod-security.kubernetes.io/enforce": "restricted"
    }


def test_the_client_is_an_extra(mlops: Mlops, cluster: KubernetesCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "kubernetes"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "kubernetes", None)
    code, _out, err = mlops("endpoint", "list", "--on", "aks")
    assert (code, "pip install 'vision-mlops[kubernetes]'" in err) == (2, True), err


def test_manifests_are_rendered_without_a_cluster(mlops: Mlops, cluster: KubernetesCluster, tmp_path: Path) -> None:
    cluster.kubeconfig.unlink()
    file = tmp_path / "out" / "colours.yaml"
    file.parent.mkdir()
    code, _out, err = deploy(mlops, 1, "--render", str(file), "--host", "colours.example.org")
    assert code == 0, err
    code, out, _err = deploy(mlops, 1, "--render", "-", "--host", "colours.example.org")
    assert (code, out) == (0, file.read_text())
    assert cluster.requests == []


def test_rendering_takes_the_options_of_a_deploy_only(mlops: Mlops, cluster: KubernetesCluster) -> None:
    code, _out, err = deploy(mlops, 1, "--bake", "--render", "-")
    assert (code, "--bake: not available with --to aks" in err) == (2, True)
