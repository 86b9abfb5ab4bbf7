"""The target ``docker`` over an engine that runs real servers without isolating them: what is kept whatever goes wrong."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import stat
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from testing.support import containers
from testing.support.bundles import make_bundle
from testing.support.prepared_data import COLOURS
from testing.support.scoring_servers import PNG

from vision_mlops.core import paths
from vision_mlops.core.errors import DeploymentError
from vision_mlops.endpoints.contract import DeploymentOptions, DeploymentRequest, Endpoint, EndpointStatus
from vision_mlops.endpoints.deployment import TrafficPlan
from vision_mlops.endpoints.deployment import deploy as deploy_to
from vision_mlops.endpoints.docker.endpoint_folder import EndpointFolder
from vision_mlops.endpoints.docker.readiness import wait_until_ready
from vision_mlops.endpoints.docker.target import DockerTarget, open_target
from vision_mlops.endpoints.scoring_client import ScoringResponse, score
from vision_mlops.model.bundle import bundle_id, read_bundle, write_bundle
from vision_mlops.registry import ModelVersion, Registry

pytestmark = pytest.mark.slow
IMAGE = "example/server:1"


def png(colour: tuple[int, int, int] = COLOURS["green"]) -> bytes:
    import io

    from PIL import Image

    stream = io.BytesIO()
    Image.new("RGB", (40, 40), colour).save(stream, "PNG")
    return stream.getvalue()


class Bench:
    """A target with its engine, and a registry of two versions, of which the second takes two colours for each other."""

    def __init__(self, state: Path, bundles: dict[int, Path]) -> None:
        self.state = state
        self.bundles = bundles
        self.target: DockerTarget = open_target()
        self.said: list[str] = []

    def bundle_path(self, version: ModelVersion) -> Path:
        return self.bundles[version.version]

    def request(self, version: int = 1, **options: Any) -> DeploymentRequest:
        identifier = bundle_id(read_bundle(self.bundles[version]))
        model = ModelVersion("colours", version, bundle_id=identifier)
        chosen = replace(DeploymentOptions(image=IMAGE, workers=1, timeout_s=20), **options)
        return DeploymentRequest("colours", f"version-{version}", model, cast("Registry", self), chosen)

    def deploy(self, version: int = 1, **options: Any) -> Endpoint:
        return deploy_to(self.target, self.request(version, **options), TrafficPlan(), self.said.append)

    def ask(self, colour: str = "green") -> ScoringResponse:
        return score(self.target.access("colours"), png(COLOURS[colour]), "image/png")

    def containers(self) -> dict[str, dict[str, Any]]:
        found = [json.loads(path.read_text()) for path in (self.state / "containers").glob("*.json")]
        return {item["name"]: item for item in found}

    def calls(self, command: str) -> int:
        return sum(line.startswith(f"{command} ") for line in (self.state / "calls").read_text().splitlines())

    def break_down(self, **faults: Any) -> None:
        (self.state / "faults.json").write_text(json.dumps(faults))

    def wait(self, until: Callable[[], object], seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while not until():
            assert time.monotonic() < deadline, self.target.endpoints()
            time.sleep(0.05)


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    folder = tmp_path_factory.mktemp("bundles")
    found = {1: make_bundle(folder / "1"), 2: make_bundle(folder / "2", swap=True), 3: make_bundle(folder / "3")}
    bundle = read_bundle(found[3])
    wrong = [item.model_copy(update={"probabilities": [0.2, 0.3, 0.5]}) for item in bundle.golden]
    write_bundle(found[3], bundle.model_copy(update={"golden": wrong}))  # refused by the server, which stays alive
    (found[1] / "weights.safetensors").chmod(0o600)
    return found


@pytest.fixture(autouse=True)
def ports(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ports of its own: tests of other files take and give up some of the usual ones at the same time."""
    monkeypatch.setenv("MLOPS_SERVING__PORT", "18000")


@pytest.fixture
def bench(tmp_path: Path, bundles: dict[int, Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """An engine that is called docker, on the path."""
    state = tmp_path / "engine"
    state.mkdir()
    program = tmp_path / "bin" / "docker"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -ES {containers.__file__} {state} "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    bench = Bench(state, bundles)
    try:
        yield bench
    finally:
        bench.break_down()
        for name in bench.containers():
            bench.target.engine.remove(name)


def test_from_the_first_deployment_to_the_end(
    bench: Bench, home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made = bench.deploy(environment={"MLOPS_SERVING__MAX_QUEUE": "7"})
    assert (made.state, made.auth) == (EndpointStatus.READY, "key")
    assert made.url.startswith("http://127.0.0.1:")
    assert [(item.name, item.reference, item.traffic) for item in made.deployments] == [("version-1", "colours:1", 100)]
    assert bench.ask().label == "green"
    assert bench.ask().body["model"]["version"] == "1"
    access = bench.target.access("colours")
    assert score(replace(access, headers={}), png(), "image/png").status == 401
    folder = home / "endpoints" / "docker-colours"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert all(key not in str(bench.containers()) for key in bench.target.keys("colours").values())
    copy = next((folder / "bundles").iterdir()) / "weights.safetensors"
    assert stat.S_IMODE(copy.stat().st_mode) == 0o644, "a copy, which the container's user may read"

    before = bench.containers()
    bench.deploy(environment={"MLOPS_SERVING__MAX_QUEUE": "7"})
    assert bench.containers() == before, "the same again changes nothing"
    assert "deployed already" in bench.said[-1]

    assert '"path":"/score"' in bench.target.logs("colours", "version-1", 50)
    assert len(bench.target.logs("colours", "version-1", 2).splitlines()) == 2
    with pytest.raises(DeploymentError, match="has no deployment 'version-9'"):
        bench.target.logs("colours", "version-9", 2)
    bench.target.set_tags("colours", {"a": "b"})
    assert bench.target.endpoint("colours").tags == {"a": "b"}
    assert bench.target.counts("colours") is None
    with pytest.raises(DeploymentError, match="only deployment"):
        bench.target.delete_deployment("colours", "version-1")

    with monkeypatch.context() as patch:  # another folder has its own endpoints
        patch.setenv("MLOPS_HOME", str(tmp_path / "other"))
        assert bench.target.endpoints() == []
        with pytest.raises(DeploymentError, match=r"belongs to the endpoint of another folder, .*home"):
            bench.deploy(2)
        with pytest.raises(DeploymentError, match=r"belongs to the endpoint of another folder"):
            bench.target.delete("colours")
    assert bench.containers() == before

    keys = dict(bench.target.keys("colours"))
    bench.target.rotate_key("colours", "primary")
    assert bench.target.keys("colours")["secondary"] == keys["secondary"]
    assert bench.ask().ok
    assert [score(replace(access, headers={"X-Api-Key": keys[name]}), png()).status for name in keys] == [401, 200]

    bench.target.delete("colours")
    assert bench.containers() == {}
    assert bench.target.endpoints() == []
    assert not folder.exists()
    with pytest.raises(DeploymentError, match="no endpoint 'colours' exists on docker"):
        bench.target.delete("colours")


def test_a_new_version_takes_over_and_a_bad_one_does_not(bench: Bench) -> None:
    """All in one, as every deployment starts servers. Nothing that was accepted goes unanswered."""
    port = int(bench.deploy().url.split(":")[2].split("/")[0])
    seen: Counter[object] = Counter()
    ending = threading.Event()
    headers = {**PNG, "X-Api-Key": bench.target.keys("colours")["primary"]}

    def load() -> None:
        while not ending.is_set():
            try:
                with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
                    connection.request("POST", "/score", png(), headers)
                    response = connection.getresponse()
                    content = json.loads(response.read())
                    seen[
                        response.status, content["model"]["version"] if "model" in content else content["error"]["code"]
                    ] += 1
            except ConnectionRefusedError:
                seen["refused"] += 1
            except (OSError, http.client.HTTPException) as error:
                seen[repr(error)] += 1
            time.sleep(0.02)

    client = threading.Thread(target=load)
    client.start()
    try:
        made = bench.deploy(2)
    finally:
        ending.set()
        client.join()
    assert made.deployments[0].name == "version-2"
    assert int(made.url.split(":")[2].split("/")[0]) == port
    assert set(seen) <= {(200, "1"), (200, "2"), "refused", (503, "not_ready")}, seen
    assert seen[200, "1"]
    assert (bench.ask("green").label, bench.ask("blue").label) == ("blue", "green"), "the other model"
    assert list(bench.containers()) == ["mlops-colours"]
    assert len(list((paths.home() / "endpoints" / "docker-colours" / "bundles").iterdir())) == 1

    before = bench.containers()
    failing: list[tuple[int, dict[str, Any], str]] = [
        (3, {}, "the server cannot become ready: .*golden"),
        (1, {"image": "example/crash:1"}, "exit code 3\nthe log says why"),
        (1, {"image": "example/sleepy:1", "timeout_s": 1}, "not ready within 1 s: .*\nstill starting"),
        (1, {"image": "example/denied:1"}, "does not release the image: .*pull access denied"),
    ]
    for version, options, words in failing:
        with pytest.raises(DeploymentError, match=words):
            bench.deploy(version, **options)
        assert bench.containers() == before, words
    assert bench.ask().ok

    def interrupt(text: str) -> None:
        if "finishes its requests" in text:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bench.target.deploy(bench.request(1), interrupt)
    assert bench.containers() == before
    assert bench.ask().ok


def test_a_version_that_fails_after_its_trial_gives_the_place_back(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.deploy()
    real, waited = wait_until_ready, []

    def wait(*arguments: Any) -> None:
        waited.append(arguments)
        if len(waited) == 2:
            raise KeyboardInterrupt
        real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr("vision_mlops.endpoints.docker.target.wait_until_ready", wait)
        with pytest.raises(KeyboardInterrupt):
            bench.deploy(2)
    assert bench.said[-1] == "version-1 serves again"
    bench.wait(lambda: bench.ask().label == "green")
    assert list(bench.containers()) == ["mlops-colours"]

    # Killed instead, nothing is given back: the next deployment finds both containers, and goes on from there.
    engine = bench.target.engine
    current = engine.find("mlops-colours")
    assert current is not None
    launch = bench.target._launch(bench.request(2), EndpointFolder("colours"), bench.said.append)
    bench.target._create_next(launch, int(current.labels["vision-mlops.port"]), trial=False)
    engine.stop(current.id)
    bench.target._recover("colours")
    bench.wait(lambda: bench.ask().label == "green")
    assert list(bench.containers()) == ["mlops-colours"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"image": "example/crash:1"}, "the container has exited: exit code 3\nthe log says why"),
        ({"image": "example/missing:1"}, "the image does not exist: .*manifest unknown"),
    ],
)
def test_a_first_deployment_that_fails_leaves_nothing(bench: Bench, home: Path, options: Any, words: str) -> None:
    with pytest.raises(DeploymentError, match=words):
        bench.deploy(**options)
    assert bench.containers() == {}
    assert not (home / "endpoints" / "docker-colours").exists()
    assert bench.target.endpoints() == []


def test_the_port_is_kept_moved_and_refused(bench: Bench) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        with pytest.raises(DeploymentError, match=f"port {taken}, asked for with --port, is taken"):
            bench.deploy(port=taken)
        assert bench.containers() == {}
        first = bench.deploy().url
        with pytest.raises(DeploymentError, match=f"port {taken}, asked for with --port, is taken"):
            bench.deploy(port=taken)
        assert bench.ask().ok
    moved = bench.deploy(port=taken)
    assert moved.url == f"http://127.0.0.1:{taken}/score" != first
    assert bench.ask().ok
    assert list(bench.containers()) == ["mlops-colours"]
    assert bench.deploy().url == moved.url


def test_states_are_those_of_now(bench: Bench) -> None:
    bench.deploy()
    state = next((bench.state / "containers").glob("*.state"))
    os.kill(json.loads(state.read_text())["Pid"], signal.SIGKILL)
    bench.wait(lambda: bench.target.endpoint("colours").state is not EndpointStatus.READY)
    bench.wait(lambda: bench.target.endpoint("colours").state is EndpointStatus.READY)
    before = bench.containers()
    bench.deploy()
    assert bench.containers() == before, "one that was started again is as good"
    bench.target.engine.stop("mlops-colours")
    stopped = bench.target.endpoint("colours")
    assert (stopped.state, stopped.problem) == (EndpointStatus.STOPPED, "the container is exited")
    with pytest.raises(DeploymentError, match="the server cannot become ready"):
        bench.deploy(3)
    assert bench.target.endpoint("colours").state is EndpointStatus.STOPPED, "as it was"
    assert bench.deploy().state is EndpointStatus.READY
    bench.target.engine.remove("mlops-colours")
    assert bench.target.endpoints() == []
    bench.target.delete("colours")  # what the engine has forgotten leaves its keys


def test_an_image_with_the_model_in_it(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLOPS_AZURE_CONTAINER_REGISTRY", "example.azurecr.io")
    made = bench.deploy(bake=True, image="")
    container = bench.containers()["mlops-colours"]
    identifier = bundle_id(read_bundle(bench.bundles[1]))
    assert container["image"] == f"example.azurecr.io/mlops-colours:1-{identifier[:12]}"
    assert [mount["target"] for mount in container["mounts"]] == ["/run/mlops"]
    assert made.state is EndpointStatus.READY
    assert bench.ask().body["model"]["name"] == "colours"
    assert f"docker push {container['image']}" in bench.said[-1]
    assert bench.calls("build") == 2, "the server's, and that with the model"
    bench.deploy(bake=True, image="")
    assert bench.calls("build") == 2
    assert bench.containers()["mlops-colours"] == container


def test_engines_that_do_not_work_are_named(bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    bench.break_down(daemon=True)
    with pytest.raises(DeploymentError, match="the container engine is not running: Cannot connect"):
        bench.deploy()
    bench.break_down(build=True)
    with pytest.raises(DeploymentError, match=r"`docker build` failed: [\s\S]*did not complete successfully"):
        bench.deploy(image="")
    assert bench.containers() == {}
    monkeypatch.setenv("PATH", str(tmp_path))
    for value, words in [
        ("", "neither docker nor podman is installed"),
        ("/nowhere/docker", "'/nowhere/docker' cannot be run: No such file"),
        ("docker '", "MLOPS_CONTAINER_ENGINE cannot be parsed"),
    ]:
        monkeypatch.setenv("MLOPS_CONTAINER_ENGINE", value)
        with pytest.raises(DeploymentError, match=words):
            open_target().endpoints()
