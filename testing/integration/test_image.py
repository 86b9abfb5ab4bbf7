"""The image of the scoring server, built and run by the container engine of this machine: ``make test-image``.

What the engine of a machine needs is said by the variables of docs/how_to/deploy_docker.md. MLOPS_TEST_BUNDLE names a bundle
other than that of the tests.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest
from testing.support.bundles import make_bundle
from testing.support.loopback_registry import PASSWORD, USER, LoopbackRegistry
from testing.support.scoring_servers import Load, RunningServer

from vision_mlops.containers.container_engine import Engine, open_engine
from vision_mlops.core import paths
from vision_mlops.core.errors import DeploymentError
from vision_mlops.endpoints.contract import DeploymentOptions, DeploymentRequest
from vision_mlops.endpoints.docker.container_launch import Launch
from vision_mlops.endpoints.docker.endpoint_folder import EndpointFolder
from vision_mlops.endpoints.docker.readiness import free_port, wait_until_ready
from vision_mlops.endpoints.docker.target import open_target
from vision_mlops.endpoints.inferencing_image import identity, served_image
from vision_mlops.endpoints.scoring_client import score
from vision_mlops.images.decoding import IMAGE_SUFFIXES
from vision_mlops.model.bundle import bundle_id, read_bundle
from vision_mlops.registry import ModelVersion, Registry
from vision_mlops.serving import server_health

# The fixtures of all tests take these out of the environment.
GIVEN = {name: value for name, value in os.environ.items() if name.startswith(("MLOPS_CONTAINER_", "MLOPS_TEST_"))}
MOST_MB = 450

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif("MLOPS_TEST_IMAGE" not in GIVEN, reason="building the image takes minutes: make test-image"),
]


@pytest.fixture(autouse=True)
def settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in GIVEN.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(scope="module")
def engine() -> Engine:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in GIVEN.items():
            patch.setenv(name, value)
        return open_engine()


@pytest.fixture(scope="module")
def image(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> str:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLOPS_HOME", str(tmp_path_factory.mktemp("home")))
        return served_image(engine, "", print)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    given = GIVEN.get("MLOPS_TEST_BUNDLE")
    return Path(given).absolute() if given else make_bundle(tmp_path_factory.mktemp("bundle") / "b")


@dataclass
class Running:
    """A container of the image that is ready, as a server of the other tests."""

    engine: Engine
    name: str
    seconds: float
    server: RunningServer
    key: str

    def inside(self, *command: str) -> str:
        return self.engine.call("exec", self.name, *command)


class _Process:
    """Stands for the process of a server that Load asks whether it has ended."""

    def __init__(self, engine: Engine, name: str) -> None:
        self.engine, self.name = engine, name

    def poll(self) -> int | None:
        found = self.engine.find(self.name)
        return None if found is not None and found.running else 0


def start(engine: Engine, name: str, port: int) -> float:
    """Start a container and wait for its server; returns how many seconds that took."""
    started = time.monotonic()
    engine.start(name)
    while server_health.ask(f"http://127.0.0.1:{port}").problem and time.monotonic() - started < 30:
        time.sleep(0.01)
    return time.monotonic() - started


@pytest.fixture
def running(engine: Engine, image: str, bundle: Path) -> Iterator[Running]:
    folder = EndpointFolder("image-test")
    folder.make_keys()
    name, port, described = f"mlops-image-test-{os.getpid()}", free_port(None), read_bundle(bundle)
    model = ModelVersion(described.name, 1, bundle_id=bundle_id(described))
    request = DeploymentRequest("image-test", "version-1", model, cast(Registry, None), DeploymentOptions(workers=2))
    launch = Launch(request, image, identity(engine, image), folder.keys_path, folder.copy_bundle(bundle))
    engine.create(name, image, launch.options(port, trial=True, host_network=engine.host_network), launch.command())
    try:
        seconds = start(engine, name, port)
        wait_until_ready(engine, name, port, launch, 5)
        server = RunningServer(cast(Any, _Process(engine, name)), port, Path("/dev/null"))
        yield Running(engine, name, seconds, server, folder.keys()["primary"])
    finally:
        engine.remove(name)


def picture(bundle: Path) -> bytes:
    golden = sorted(path for path in (bundle / "golden").iterdir() if path.suffix in IMAGE_SUFFIXES)
    return golden[0].read_bytes()


def health_check(content: dict[str, Any]) -> list[str]:
    """The command of an image's health check; Docker and Podman show it in different places."""
    return list((content["Config"].get("Healthcheck") or content["Healthcheck"])["Test"])


def test_what_is_in_it(engine: Engine, image: str, capsys: pytest.CaptureFixture[str]) -> None:
    content = json.loads(engine.call("image", "inspect", image))[0]
    megabytes = content["Size"] / 1e6
    with capsys.disabled():
        print(f"\n{image}: {megabytes:.0f} MB, at most {MOST_MB}")
    assert megabytes < MOST_MB
    config = content["Config"]
    assert config["User"] == "10001:10001"
    assert config["Entrypoint"] == ["mlops", "serve"]
    assert list(config["ExposedPorts"]) == ["8000/tcp"]
    assert "python3" in str(health_check(content))
    lookup = (
        "import importlib.util, shutil;"
        "print([name for name in ('torch', 'mlflow', 'azure', 'pytest') if importlib.util.find_spec(name)],"
        "[name for name in ('gcc', 'cc', 'g++', 'make', 'curl') if shutil.which(name)])"
    )
    said = engine.call("run", "--rm", *engine.run_options, "--entrypoint", "/opt/mlops/bin/python", image, "-c", lookup)
    assert said.split("\n")[0] == "[] []"
    said = engine.call(
        "run", "--rm", *engine.run_options, "--entrypoint", "sh", image, "-c", "ls -a / /opt /tmp; id -u"
    )
    assert said.split()[-1] == "10001"
    assert not {".env", "outputs", ".git"} & set(said.split())


def test_without_a_key_it_says_so(engine: Engine, image: str) -> None:
    with pytest.raises(DeploymentError) as caught:
        engine.call("run", "--rm", *engine.run_options, image)
    assert "without a key" in str(caught.value) or "no bundle" in str(caught.value)
    assert "MLOPS_SCORING_KEY" in str(caught.value)


def test_it_is_soon_ready_and_may_write_nothing(
    running: Running, image: str, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with capsys.disabled():  # a figure to look at: how long it takes says as much of the machine as of the image
        print(f"\nready {running.seconds:.2f} s after the start")
    answer = running.server.score(picture(bundle), X_Api_Key=running.key)
    assert (answer.status, answer.json["model"]["version"]) == (200, "1")
    assert running.server.score(picture(bundle)).status == 401
    assert running.server.metric("scoring_requests_total") >= 2, "of both workers, in files"
    refused = 'touch /x /opt/x /model/x /run/mlops/keys 2>&1; touch /tmp/y && id -u; grep -h "^CapEff" /proc/1/status'
    said = running.inside("sh", "-c", refused)
    assert said.count("Read-only file system") + said.count("Permission denied") == 4
    assert said.split()[-3:] == ["10001", "CapEff:", "0" * 16]
    running.inside(*health_check(json.loads(running.engine.call("image", "inspect", image))[0])[1:])


def test_orphans_are_reaped(running: Running) -> None:
    running.inside("sh", "-c", "(sleep 0.2 & true)")
    time.sleep(1)
    said = running.inside("sh", "-c", "cat /proc/[0-9]*/stat")
    assert "(mlops)" in said or "(python" in said
    assert ") Z " not in said


def test_a_stop_under_load_loses_nothing(running: Running, bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    load = Load(running.server, picture(bundle), clients=8, headers={"X-Api-Key": running.key})
    with load:
        time.sleep(1.5)
        started = time.monotonic()
        running.engine.stop(running.name)
        seconds = time.monotonic() - started
    with capsys.disabled():
        print(f"\nstopped in {seconds:.2f} s after {load.statuses[200]} answers; errors: {load.errors}")
    assert set(load.statuses) == {200}
    assert [error for error in load.errors if "ConnectionRefused" not in error] == []
    ended = running.engine.find(running.name)
    assert ended is not None
    assert (ended.status, ended.exit_code) == ("exited", 0)


def test_the_target_deploys_replaces_and_bakes(
    image: str, bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    described = read_bundle(bundle)
    bundles = {1: bundle, 2: bundle, 3: make_bundle(tmp_path / "broken")}
    with (bundles[3] / "model.onnx").open("ab") as stream:
        stream.write(b"x")

    class Folders:
        def bundle_path(self, version: ModelVersion) -> Path:
            return bundles[version.version]

    def request(version: int, **options: Any) -> DeploymentRequest:
        model = ModelVersion(described.name, version, bundle_id=bundle_id(described))
        registry = cast("Registry", Folders())
        return DeploymentRequest(
            "image-test", f"version-{version}", model, registry, DeploymentOptions(workers=1, **options)
        )

    target = open_target()
    said: list[str] = []
    with contextlib.ExitStack() as stack:
        stack.callback(lambda: target.delete("image-test") if target.endpoints() else None)
        made = target.deploy(request(1, image=image), said.append)
        server = RunningServer(
            cast(Any, _Process(target.engine, "mlops-image-test")), int(made.url.split(":")[2][:-6]), tmp_path
        )
        key = target.keys("image-test")["primary"]
        assert target.deploy(request(1, image=image), said.append) == made
        with Load(server, picture(bundle), clients=2, headers={"X-Api-Key": key}, patient=True) as load:
            before = time.monotonic()
            made = target.deploy(request(2, image=image), said.append)
            seconds = time.monotonic() - before
            time.sleep(0.2)
        with capsys.disabled():
            print(f"\nreplaced in {seconds:.1f} s, {load.gap:.1f} s without an answer: {dict(load.statuses)}")
        assert set(load.statuses) <= {200, 503}
        assert [error for error in load.errors if "ConnectionRefused" not in error] == []
        assert made.deployments[0].name == "version-2"
        with pytest.raises(DeploymentError, match=r"model\.onnx was changed"):
            target.deploy(request(3, image=image), said.append)
        assert target.endpoints()[0].deployments[0].name == "version-2"
        target.rotate_key("image-test", "primary")
        access = target.access("image-test")
        assert score(access, picture(bundle)).ok
        assert server.score(picture(bundle), X_Api_Key=key).status == 401
        made = target.deploy(request(1, image=image, bake=True), said.append)
        assert score(target.access("image-test"), picture(bundle)).body["model"]["version"] == "1"
        assert list((paths.home() / "endpoints" / "docker-image-test" / "bundles").iterdir()) == []
        assert '"event":"request"' in target.logs("image-test", "version-1", 5)
    assert target.endpoints() == []


def test_a_push_brings_every_layer_and_keeps_the_digest(engine: Engine, image: str) -> None:
    name, root = "mlops-inferencing", Path(__file__).parents[2]
    with LoopbackRegistry() as registry:
        engine.call("tag", image, f"{registry.address}/{name}:test")
        pushed = subprocess.run(
            [root / "environments" / "docker" / "images.sh", "push", "inferencing_image"],
            env=os.environ | {
                "REGISTRY": registry.address, "TAG": "test", "MLOPS_CONTAINER_ENGINE": shlex.join(engine.words),
                "MLOPS_CONTAINER_PUSH_OPTIONS": f"--creds={USER}:{PASSWORD} --tls-verify=false",
            },
            capture_output=True, text=True, cwd=root, timeout=300,
        )  # fmt: skip
        assert pushed.returncode == 0, pushed.stderr
        reference = (root / "outputs" / "images" / f"{name}.digest").read_text().strip()
        digest = reference.removeprefix(f"{registry.address}/{name}@")
        manifest = json.loads(registry.manifests[name, digest][0])
        assert registry.manifests[name, "test"] == registry.manifests[name, digest]
        assert all(len(registry.blobs[layer["digest"]]) == layer["size"] for layer in manifest["layers"])
