"""A deployment to the Docker of a compute instance: ``mlops deploy --to docker`` by Docker's own command line.

Docker's command line is a client that this project did not write; it is not needed for anything else, so where it is not
installed these tests are skipped.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from testing.support.bundles import make_bundle
from testing.support.places import Place

from vision_mlops.registry import open_registry

if TYPE_CHECKING:
    from azure.ai.ml.entities import ComputeInstance

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        shutil.which("docker") is None or "podman" in str(Path(shutil.which("docker") or "").resolve()),
        reason="Docker's command line is not installed",
    ),
]
Run = Callable[..., tuple[int, str, str]]
IMAGE = "example.azurecr.io/vision-mlops-inferencing:1"
DEPLOY = ("deploy", "--to", "docker", "--workers", "1", "--image", IMAGE)


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("bundles")
    return make_bundle(folder / "1"), make_bundle(folder / "2", swap=True)


@pytest.fixture
def instance(place: Place, bundles: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> ComputeInstance:
    """An instance that runs, with its terminal's variables; two versions of a model are in the workspace."""
    from azure.ai.ml.entities import ComputeInstance

    assert place.cloud is not None
    monkeypatch.setenv("MLOPS_REGISTRY", "azure")
    monkeypatch.setenv("MLOPS_SERVING__PORT", "20000")
    for bundle in bundles:
        open_registry().register(bundle, "colours")
    made: ComputeInstance = place.client.compute.begin_create_or_update(
        ComputeInstance(name="dev", size="Standard_DS3_v2")
    ).result()
    (service,) = made.services
    assert service["displayName"] == "Docker"
    monkeypatch.setenv("DOCKER_HOST", service["endpointUri"])
    monkeypatch.setenv("DOCKER_BUILDKIT", "0")
    return made


def docker(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["docker", *words], capture_output=True, text=True, timeout=60)


@pytest.fixture
def blue(bundles: tuple[Path, Path]) -> str:
    return str(bundles[0] / "golden" / "blue.png")


def label(run: Run, image: str) -> str:
    code, out, said = run("endpoint", "test", "colours", "--image", image, "--json")
    assert code == 0, said
    return str(json.loads(out)[0]["label"])


def test_a_model_of_the_workspace_is_served_on_the_instance(
    place: Place, instance: ComputeInstance, run: Run, blue: str
) -> None:
    code, out, said = run(*DEPLOY, "--model", "colours:1")
    assert (code, "colours:1 is served at http://127.0.0.1:20000" in out) == (0, True), said
    assert label(run, blue) == "blue"
    assert docker("ps", "--format", "{{.Names}} {{.Image}} {{.State}}").stdout == f"mlops-colours {IMAGE} running\n"
    assert '"path":"/health/ready"' in docker("logs", "mlops-colours").stdout
    code, _, said = run(*DEPLOY, "--model", "colours:1")
    assert "version-1 is deployed already" in said

    # Another version takes the port over; the first one has gone.
    code, out, said = run(*DEPLOY, "--model", "colours:2")
    assert (code, "http://127.0.0.1:20000" in out) == (0, True), said
    assert label(run, blue) == "green"
    assert docker("ps", "-a", "--format", "{{.Names}}").stdout == "mlops-colours\n"

    # A stopped instance serves nothing, and has no Docker; started again, it serves again by itself.
    place.client.compute.begin_stop("dev").result()
    code, _, said = run("endpoint", "list", "--on", "docker")
    assert (code, "the container engine is not running" in said) == (2, True), said
    assert run("endpoint", "test", "colours", "--image", blue, "--on", "docker")[0] == 2
    place.client.compute.begin_start("dev").result()
    for _ in range(100):  # its server loads the model first
        if run("endpoint", "test", "colours", "--image", blue)[0] == 0:
            break
    assert label(run, blue) == "green"

    assert run("endpoint", "delete", "colours")[0] == 0
    assert docker("ps", "-a", "-q").stdout == ""


def test_an_image_with_the_model_is_built_on_the_instance(instance: ComputeInstance, run: Run, blue: str) -> None:
    code, _, said = run(*DEPLOY, "--model", "colours:2", "--bake")
    assert code == 0, said
    assert label(run, blue) == "green"
    images = docker("images", "--format", "{{.Repository}}:{{.Tag}}").stdout.split()
    (baked,) = [name for name in images if name.startswith("mlops-colours:2-")]
    inspected = json.loads(docker("image", "inspect", baked).stdout)[0]["Config"]
    assert "MLOPS_MODEL_VERSION=2" in inspected["Env"]
    mounts = json.loads(docker("container", "inspect", "mlops-colours").stdout)[0]["HostConfig"]["Mounts"]
    assert [item["Target"] for item in mounts] == ["/run/mlops"]  # the keys; the model is in the image


def test_an_image_that_is_in_no_registry_is_said(place: Place, instance: ComputeInstance, run: Run) -> None:
    place.loopback.limits.images = set()
    code, _, said = run(*DEPLOY, "--model", "colours:1")
    assert (code, "the image does not exist" in said) == (2, True), said
    assert docker("ps", "-a", "-q").stdout == ""


def test_what_the_engine_refuses_is_said_in_its_words(instance: ComputeInstance, tmp_path: Path) -> None:
    assert docker("pull", "example/a").returncode == 0
    assert docker("create", "--name", "a", "example/a").returncode == 0
    for words, message in (
        (("create", "--name", "a", "example/a"), 'Conflict. The container name "/a" is already in use'),
        (("start", "nobody"), "No such container: nobody"),
        (("ps", "--filter", "volume=x"), "the filter 'volume' is not emulated"),
        (("info",), "GET /info is not emulated on a compute instance"),
        (("exec", "a", "ls"), "POST /containers/a/exec is not emulated"),
    ):
        done = docker(*words)
        assert (done.returncode, message in done.stderr) == (1, True), done.stderr
    (tmp_path / "Dockerfile").write_text("FROM example/a\nCOPY missing /there\n")
    built = docker("build", "-t", "b", str(tmp_path))
    assert "file not found in build context: missing" in built.stderr
    assert docker("rm", "a").returncode == 0
    mode = Path(os.environ["DOCKER_HOST"].removeprefix("unix://")).parent.stat().st_mode
    assert mode & 0o077 == 0  # nobody else reaches the engine
