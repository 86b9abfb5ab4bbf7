"""Online endpoints over the command line and the real SDK, against the loopback cloud, whose containers are real servers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from testing.support.bundles import make_bundle
from testing.support.places import Place
from testing.support.prepared_data import COLOURS

from vision_mlops.cli.app.endpoint_choice import choose_endpoint
from vision_mlops.endpoints.azureml.kubernetes_target import KubernetesEndpoint
from vision_mlops.endpoints.azureml.managed_target import Managed
from vision_mlops.endpoints.contract import DeploymentOptions, DeploymentRequest
from vision_mlops.endpoints.scoring_client import score_file
from vision_mlops.flask_app.app import create_app
from vision_mlops.flask_app.app_settings import AppSettings
from vision_mlops.registry import ModelVersion, open_registry

pytestmark = pytest.mark.slow

IMAGE = "example.azurecr.io/vision-mlops-inferencing:1"
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("bundles")
    return make_bundle(folder / "1"), make_bundle(folder / "2", swap=True)


@pytest.fixture
def versions(place: Place, bundles: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> list[ModelVersion]:
    """Two versions in the workspace: the second takes blue and green for each other."""
    monkeypatch.setenv("MLOPS_REGISTRY", "azure")
    monkeypatch.setenv("MLOPS_AZURE_INFERENCING_IMAGE", IMAGE)
    return [open_registry().register(bundle, "colours") for bundle in bundles]


@pytest.fixture
def image(bundles: tuple[Path, Path]) -> str:
    assert "blue" in COLOURS
    return str(bundles[0] / "golden" / "blue.png")


def shown(run: Run, on: str = "managed") -> dict[str, Any]:
    code, out, _ = run("endpoint", "list", "--on", on, "--json")
    assert code == 0
    (found,) = json.loads(out)
    return dict(found)


def test_the_life_of_a_managed_endpoint(
    place: Place, versions: list[ModelVersion], image: str, run: Run, tmp_path: Path
) -> None:
    code, out, said = run("deploy", "--to", "managed", "--model", "colours:1")
    assert (code, "colours:1 is served at https://" in out) == (0, True), said
    found = shown(run)
    (first,) = found["deployments"]
    assert (found["state"], found["auth"], found["tags"]) == ("ready", "key", {})
    assert (first["name"], first["model"], first["version"], first["traffic"]) == ("version-1", "colours", "1", 100)

    # A real prediction of the bundle, from the container that was given the model as the service mounts it.
    code, out, _ = run("endpoint", "test", "colours", "--image", image, "--json")
    (row,) = json.loads(out)
    assert (code, row["label"], row["status"], row["deployment"]) == (0, "blue", 200, "version-1")

    # The same again sends nothing that changes anything.
    writes = place.count("onlineEndpoints", "PUT")
    assert run("deploy", "--to", "managed", "--model", "colours:1")[0] == 0
    assert place.count("onlineEndpoints", "PUT") == writes

    # The second version gets none of the traffic, then copies, then a share, then all.
    assert run("deploy", "--to", "managed", "--model", "colours:2", "--traffic", "0", "--keep")[0] == 0
    assert [item["traffic"] for item in shown(run)["deployments"]] == [100, 0]
    before = place.count("onlineEndpoints", "PUT")
    code, _, said = run("endpoint", "traffic", "colours", "version-1=100", "--mirror", "version-2=50")
    assert (code, place.count("onlineEndpoints", "PUT") - before) == (0, 1), said
    assert [item["mirror"] for item in shown(run)["deployments"]] == [0, 50]
    code, _, said = run("endpoint", "traffic", "colours", "version-1=100", "--mirror", "version-2=80")
    assert (code, "an endpoint on managed sends copies of at most 50%" in said) == (2, True)
    access = Managed().access("colours")
    labels = {score_file(access, Path(image)).label for _ in range(20)}
    assert labels == {"blue"}  # callers get none of the copies' answers
    assert "POST" in run("endpoint", "logs", "colours", "--deployment", "version-2")[1]  # that they went there
    assert score_file(access, Path(image), "version-2").label == "green"
    code, out, _ = run("endpoint", "traffic", "colours", "version-1=50", "version-2=50", "--json")
    assert [(row["deployment"], row["traffic"]) for row in json.loads(out)] == [
        ("version-1", "50%"),
        ("version-2", "50%"),
    ]
    assert {score_file(access, Path(image)).label for _ in range(30)} == {"blue", "green"}

    assert run("endpoint", "delete", "colours", "--deployment", "version-2")[0] == 2
    assert run("endpoint", "traffic", "colours", "version-1=100")[0] == 0
    assert run("endpoint", "delete", "colours", "--deployment", "version-2")[0] == 0
    assert "serving colours" in run("endpoint", "logs", "colours")[1]

    _keys(access, run, image, tmp_path)
    Managed().set_tags("colours", {"mlops.rollout": "x" * 256})
    assert shown(run)["tags"] == {"mlops.rollout": "x" * 256}

    assert run("endpoint", "delete", "colours")[0] == 0
    assert run("endpoint", "list", "--on", "managed", "--json")[1].strip() == "[]"
    assert list(place.client.online_endpoints.list()) == []


def _keys(access: Any, run: Run, image: str, folder: Path) -> None:
    """Rotating the secondary key leaves the primary one, rotating that ends what was handed out."""
    assert run("endpoint", "keys", "colours", "--rotate", "secondary")[0] == 0
    assert score_file(access, Path(image)).ok
    assert run("endpoint", "keys", "colours", "--rotate", "primary", "--out", str(folder / "key"))[0] == 0
    assert score_file(access, Path(image)).status == 401
    fresh = Managed().access("colours")
    assert fresh.headers["Authorization"] == f"Bearer {(folder / 'key').read_text()}"
    assert score_file(fresh, Path(image)).ok
    assert score_file(fresh, folder / "key").status == 415  # as the container says it, not as the front end wraps it


def test_a_version_of_another_place_is_registered_in_the_workspace_once(
    place: Place, bundles: tuple[Path, Path], image: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.loopback.add_workspace("dev")
    monkeypatch.setenv("MLOPS_REGISTRY", "azureml://workspaces/dev")
    registry = open_registry()
    registry.register(bundles[1], "colours")
    registry.register(bundles[0], "colours", aliases=["champion"])
    arguments = ("deploy", "--to", "managed", "--model", "colours@champion", "--image", IMAGE, "--auth", "aad_token")
    code, _, said = run(*arguments)
    assert code == 0, said
    assert "registering colours:2 in workspace ws" in said
    assert "colours:2 is colours:1 in workspace ws" in said
    found = shown(run)
    assert (found["auth"], found["deployments"][0]["version"]) == ("aad_token", "2")
    row = json.loads(run("endpoint", "test", "colours", "--image", image, "--json")[1])[0]
    assert (row["label"], row["problem"]) == ("blue", "")
    code, _, said = run(*arguments)
    assert (code, "registering" in said) == (0, False)
    assert len(list(place.client.models.list(name="colours"))) == 1
    _classifies(found["url"], Path(image))
    code, _, said = run("endpoint", "keys", "colours", "--rotate", "primary")
    assert (code, "it has no keys" in said, "--auth key" in said) == (2, True, True)
    code, _, said = run(*arguments[:-1], "key")
    assert (code, "takes aad_token, which cannot be changed" in said) == (2, True)


def _classifies(url: str, image: Path) -> None:
    """The web frontend signs in to it with the identity of this machine."""
    chosen = choose_endpoint("colours")
    assert (chosen.url, chosen.auth, chosen.key) == (url, "identity", "")
    app = create_app(AppSettings(endpoint=url, endpoint_auth="identity", timeout_s=30))
    app.config["WTF_CSRF_ENABLED"] = False
    client = app.test_client()
    assert "endpoint_" not in client.get("/api/status").text
    with image.open("rb") as stream:
        answer = client.post("/api/classify", data={"image": (stream, "blue.png"), "explain": "true"}).json
    assert answer is not None
    assert answer["predictions"][0]["label"] == "blue", answer
    assert answer["heat_map"]
    app.extensions["vision_mlops"].endpoint.close()


def test_a_score_script_is_sent_with_the_package_alone(place: Place, versions: list[ModelVersion]) -> None:
    request = DeploymentRequest(
        "colours", "version-1", versions[0], open_registry(), DeploymentOptions(score_script=True)
    )
    endpoint = Managed().deploy(request, lambda text: None)
    assert endpoint.serving is not None
    made = place.client.online_deployments.get("version-1", "colours")
    cloud = place.loopback
    properties = cloud.store.get(made.id).properties
    assert properties["codeConfiguration"]["scoringScript"] == "score.py"
    container, path = cloud.blobs.split(
        cloud.store.get(properties["codeConfiguration"]["codeId"]).properties["codeUri"]
    )
    names = {name.removeprefix(path).lstrip("/") for name in cloud.blobs.names(container, path)}
    assert {"score.py", "vision_mlops/serving/score.py", "vision_mlops/config/workloads/textile.yml"} <= names
    assert {name.split("/")[0] for name in names} == {"score.py", "vision_mlops"}
    writes = place.count("onlineEndpoints", "PUT")
    Managed().deploy(request, lambda text: None)
    assert place.count("onlineEndpoints", "PUT") == writes


def test_a_version_of_a_shared_registry_is_deployed_from_there(place: Place, bundles: tuple[Path, Path]) -> None:
    shared = open_registry(f"azureml://registries/{place.loopback.registry}")
    version = shared.register(bundles[0], "colours")
    request = DeploymentRequest("colours", "version-1", version, shared, DeploymentOptions(score_script=True))
    said: list[str] = []
    endpoint = Managed().deploy(request, said.append)
    assert [item.reference for item in endpoint.deployments] == ["colours:1"]
    model = str(place.client.online_deployments.get("version-1", "colours").model)
    assert model == f"azureml://registries/{place.loopback.registry}/models/colours/versions/1"
    assert (list(place.client.models.list()), len(said)) == ([], 2)


def test_a_kubernetes_endpoint(place: Place, versions: list[ModelVersion], image: str, run: Run) -> None:
    place.loopback.add_compute("aks")
    base = ("deploy", "--to", "kubernetes-endpoint", "--model", "colours:1")
    code, _, said = run(*base)
    assert (code, "--compute or MLOPS_AZURE_KUBERNETES" in said) == (2, True)
    code, _, said = run(*base, "--compute", "nowhere")
    assert (code, "compute nowhere" in said) == (2, True)
    for auth in ("aad_token", "nothing"):
        code, _, said = run(*base, "--compute", "aks", "--auth", auth)
        assert (code, f"--auth {auth}: an endpoint on kubernetes-endpoint takes key or aml_token" in said) == (2, True)
    assert list(place.client.online_endpoints.list()) == []
    code, _, said = run(*base, "--compute", "aks", "--cpu", "0.5", "--memory", "1.5", "--instances", "2")
    assert code == 0, said
    made = place.client.online_deployments.get("version-1", "colours")
    assert (made.resources.requests.cpu, made.resources.limits.memory) == ("0.5", "1536Mi")
    found = shown(run, "kubernetes-endpoint")
    assert (found["target"], found["deployments"][0]["instances"]) == ("kubernetes-endpoint", 2)
    assert run("endpoint", "test", "colours", "--image", image)[0] == 0
    assert run(*base[:-1], "colours:2", "--compute", "aks", "--traffic", "10")[0] == 0
    assert [item["traffic"] for item in shown(run, "kubernetes-endpoint")["deployments"]] == [90, 10]
    assert run("endpoint", "traffic", "colours", "version-1=100")[0] == 0
    code, _, said = run("endpoint", "traffic", "colours", "version-1=100", "--mirror", "version-2=10")
    assert (code, "an endpoint on kubernetes-endpoint sends no copies" in said) == (2, True)
    code, _, said = run("endpoint", "show", "colours", "--on", "managed")
    assert (code, "is on kubernetes-endpoint, not on managed" in said) == (2, True)
    assert run("endpoint", "delete", "colours")[0] == 0
    assert KubernetesEndpoint().endpoints() == []


def test_a_kubernetes_endpoint_that_takes_tokens(
    place: Place, versions: list[ModelVersion], image: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.loopback.add_compute("aks")
    base = ("deploy", "--to", "kubernetes-endpoint", "--model", "colours:1", "--compute", "aks")
    monkeypatch.setenv("MLOPS_AZURE_ENDPOINT_AUTH", "aad_token")
    code, _, said = run(*base)
    assert (code, "MLOPS_AZURE_ENDPOINT_AUTH=aad_token: an endpoint on" in said) == (2, True)
    assert run(*base, "--auth", "aml_token")[0] == 0
    assert shown(run, "kubernetes-endpoint")["auth"] == "aml_token"
    assert run("endpoint", "test", "colours", "--image", image)[0] == 0
    code, _, said = run("endpoint", "keys", "colours", "--rotate", "primary")
    assert (code, "takes tokens (aml_token); it has no keys" in said) == (2, True)


def test_the_endpoint_of_somebody_else_is_left_alone(place: Place, versions: list[ModelVersion], run: Run) -> None:
    from azure.ai.ml.entities import ManagedOnlineEndpoint

    place.client.online_endpoints.begin_create_or_update(
        ManagedOnlineEndpoint(name="colours", auth_mode="key")
    ).result()
    for words in (
        ("deploy", "--to", "managed", "--model", "colours:1"),
        ("endpoint", "delete", "colours", "--on", "managed"),
        ("endpoint", "keys", "colours", "--rotate", "primary", "--on", "managed"),
    ):
        code, _, said = run(*words)
        assert (code, "endpoint 'colours' was not created by mlops" in said) == (2, True), said
    assert run("endpoint", "list", "--on", "managed", "--json")[1].strip() == "[]"
    assert place.client.online_endpoints.get("colours").provisioning_state == "Succeeded"
