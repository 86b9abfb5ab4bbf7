"""The target ``local`` on real processes: nothing is lost when deployments change, and nothing is left when they go."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from PIL import Image
from testing.support.bundles import make_bundle
from testing.support.prepared_data import COLOURS
from testing.support.scoring_servers import Load, RunningServer
from typer.testing import CliRunner

from vision_mlops.core.errors import DeploymentError
from vision_mlops.endpoints.contract import DeploymentOptions, DeploymentRequest, Endpoint, EndpointStatus
from vision_mlops.endpoints.deployment import TrafficPlan
from vision_mlops.endpoints.deployment import deploy as run_plan
from vision_mlops.endpoints.local.target import LocalTarget
from vision_mlops.endpoints.scoring_client import score
from vision_mlops.registry import ModelVersion, Registry

pytestmark = pytest.mark.slow
NAME = "colours"


def encoded(colour: str) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (32, 32), COLOURS[colour]).save(stream, "PNG")
    return stream.getvalue()


BLUE = encoded("blue")  # the swapped bundle takes it for green
RED = encoded("red")


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    folder = tmp_path_factory.mktemp("bundles")
    return {1: make_bundle(folder / "one"), 2: make_bundle(folder / "two", swap=True)}


@pytest.fixture(autouse=True)
def ports(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ports of its own: tests of other files take and give up some of the usual ones at the same time."""
    monkeypatch.setenv("MLOPS_SERVING__PORT", "19000")


@pytest.fixture
def target(home: Path) -> Iterator[LocalTarget]:
    target = LocalTarget()
    yield target
    for folder in (home / "endpoints").glob("*/local.json"):
        target.delete(folder.parent.name)
    wait(10, lambda: not processes(home))


def wait(seconds: float, until: Callable[[], object]) -> None:
    deadline = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.02)


def processes(home: Path) -> list[str]:
    """Command lines of what runs with this home folder, children of such processes included."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            environment, words = (folder / "environ").read_bytes(), (folder / "cmdline").read_bytes()
            if f"MLOPS_HOME={home}\0".encode() in environment and b"vision_mlops" in words:
                found.append(f"{folder.name} {words.replace(bytes(1), b' ').decode()}")
    return found


def request(bundle: Path, version: int, **options: Any) -> DeploymentRequest:
    registry = SimpleNamespace(bundle_path=lambda model: bundle)
    given = DeploymentOptions(**{"port": 0, "workers": 1, **options})
    return DeploymentRequest(NAME, f"version-{version}", ModelVersion(NAME, version), cast(Registry, registry), given)


def deploy(target: LocalTarget, bundles: dict[int, Path], version: int, said: list[str] | None = None) -> Endpoint:
    return target.deploy(request(bundles[version], version), (said if said is not None else []).append)


def status(target: LocalTarget) -> dict[str, Any]:
    from vision_mlops.endpoints.local.local_endpoint import LocalEndpoint

    return LocalEndpoint(NAME).ask("status")


def load(endpoint: Endpoint, clients: int = 3) -> Load:
    port = int(endpoint.url.rpartition(":")[2].partition("/")[0])
    server = SimpleNamespace(port=port, process=SimpleNamespace(poll=lambda: None))
    return Load(cast(RunningServer, server), BLUE, clients=clients)


def test_deployed_twice_nothing_changes_and_deleted_nothing_is_left(
    target: LocalTarget, bundles: dict[int, Path], home: Path
) -> None:
    endpoint = deploy(target, bundles, 1)
    assert (endpoint.state, endpoint.auth, endpoint.deployment("version-1").traffic) == (
        EndpointStatus.READY,
        "none",
        100,
    )
    answer = score(target.access(NAME), BLUE, "image/png")
    assert (answer.label, answer.deployment, answer.body["model"]["version"]) == ("blue", "version-1", "1")
    before, said = status(target)["deployments"][0]["pid"], list[str]()
    again = target.deploy(request(bundles[1], 1, port=None, workers=None), said.append)  # not said: as it is
    assert again == endpoint
    assert status(target)["deployments"][0]["pid"] == before
    assert "nothing changes" in said[0]
    assert "serving colours" in target.logs(NAME, "version-1", 9)
    target.set_tags(NAME, {"a": "b"})
    assert target.endpoint(NAME).tags == {"a": "b"}
    for call in (lambda: target.keys(NAME), lambda: target.rotate_key(NAME, "primary")):
        with pytest.raises(DeploymentError, match="has no keys"):
            call()
    with pytest.raises(DeploymentError, match="100% of the traffic"):
        target.delete_deployment(NAME, "version-1")
    with pytest.raises(DeploymentError, match="has port"):
        target.deploy(request(bundles[1], 1, port=1), said.append)
    assert len(processes(home)) == 3  # router, server, worker
    target.delete(NAME)
    assert processes(home) == []
    assert not (home / "endpoints" / NAME).exists()
    assert target.endpoints() == []
    with pytest.raises(DeploymentError, match="no endpoint 'colours' exists"):
        target.endpoint(NAME)


def test_a_second_version_takes_over_under_load(target: LocalTarget, bundles: dict[int, Path]) -> None:
    endpoint = deploy(target, bundles, 1)
    with load(endpoint) as sent:
        time.sleep(0.3)
        after = run_plan(target, request(bundles[2], 2, port=None), TrafficPlan(), lambda text: None)
        time.sleep(0.3)
    assert sent.errors == []
    assert set(sent.statuses) == {200}
    assert len(sent.models) == 2
    assert [item.name for item in after.deployments] == ["version-2"]
    assert after.url == endpoint.url
    assert score(target.access(NAME), BLUE, "image/png").label == "green"
    assert len(status(target)["deployments"]) == 1


def test_shares_copies_and_a_router_that_is_killed(target: LocalTarget, bundles: dict[int, Path], home: Path) -> None:
    deploy(target, bundles, 1)
    endpoint = deploy(target, bundles, 2)
    assert endpoint.deployment("version-2").traffic == 0
    access = target.access(NAME)
    target.set_traffic(NAME, {"version-1": 90, "version-2": 10}, {})
    answers = [score(access, BLUE, "image/png") for _ in range(50)]
    assert [answer.deployment for answer in answers].count("version-2") == 5
    assert score(access, BLUE, "image/png", "version-2").label == "green"
    assert score(access, BLUE, "image/png", "version-3").status == 404
    with pytest.raises(DeploymentError, match="adds up to 90"):
        target.set_traffic(NAME, {"version-1": 90}, {})
    target.set_traffic(NAME, {"version-1": 100}, {"version-2": 50})
    before = target.counts(NAME)
    for image in (BLUE, BLUE, RED, RED):
        score(access, image, "image/png")
    assert before is not None

    def copied() -> bool:
        now = target.counts(NAME)
        return now is not None and (now["version-2"] - before["version-2"]).compared == 2

    wait(5, copied)
    counts = target.counts(NAME)
    assert counts is not None
    assert (counts["version-2"].disagreed, counts["version-2"].errors) == (1, 0)  # one of them was red
    assert sum((counts["version-1"] - before["version-1"]).latencies) == 4

    target.set_traffic(NAME, {"version-1": 75, "version-2": 25}, {})
    os.kill(status(target)["pid"], signal.SIGKILL)
    wait(10, lambda: not processes(home))  # the servers notice
    stopped = target.endpoint(NAME)
    assert (stopped.state, {item.state for item in stopped.deployments}) == (
        EndpointStatus.STOPPED,
        {EndpointStatus.STOPPED},
    )
    assert target.counts(NAME) == counts
    with pytest.raises(DeploymentError, match="is stopped"):
        target.set_traffic(NAME, {"version-1": 100}, {})
    target.set_tags(NAME, {"kept": "yes"})
    again = deploy(target, bundles, 2)
    assert {item.name: item.traffic for item in again.deployments} == {"version-1": 75, "version-2": 25}
    assert {item.state for item in again.deployments} == {EndpointStatus.READY}
    assert (again.url, again.tags, target.counts(NAME)) == (stopped.url, {"kept": "yes"}, counts)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "plan", "shares"),
    [
        (2, TrafficPlan(), {"version-1": 75, "version-2": 25}),
        (1, TrafficPlan(), {"version-1": 75, "version-2": 25}),
        (2, TrafficPlan(60), {"version-1": 40, "version-2": 60}),
        (2, TrafficPlan(100), {"version-2": 100}),
    ],
)
def test_what_a_deploy_makes_of_the_shares_of_a_stopped_endpoint(
    target: LocalTarget, bundles: dict[int, Path], home: Path, number: int, plan: TrafficPlan, shares: dict[str, int]
) -> None:
    for version in (1, 2):
        deploy(target, bundles, version)
    target.set_traffic(NAME, {"version-1": 75, "version-2": 25}, {})
    os.kill(status(target)["pid"], signal.SIGKILL)
    wait(10, lambda: not processes(home))
    said: list[str] = []
    again = run_plan(target, request(bundles[number], number, port=None), plan, said.append)
    assert {item.name: item.traffic for item in again.deployments} == shares
    assert ("traffic as before: version-1 75%, version-2 25%" in said) == (plan.share is None)


def test_a_server_that_is_killed_comes_back_and_the_other_one_answers(
    target: LocalTarget, bundles: dict[int, Path]
) -> None:
    deploy(target, bundles, 1)
    deploy(target, bundles, 2)
    endpoint = target.set_traffic(NAME, {"version-1": 50, "version-2": 50}, {})
    first = status(target)["deployments"][0]["pid"]
    with load(endpoint) as sent:
        time.sleep(0.2)
        os.killpg(first, signal.SIGKILL)
        wait(10, lambda: status(target)["deployments"][0]["pid"] not in (first, None))
        wait(20, lambda: target.endpoint(NAME).deployment("version-1").state is EndpointStatus.READY)
    assert sent.errors == []
    assert set(sent.statuses) == {200}
    assert "was killed by signal 9" in Path(os.environ["MLOPS_HOME"], "endpoints", NAME, "router.log").read_text()


@pytest.mark.parametrize("how", ["graph", "manifest"])
def test_a_bundle_that_was_tampered_with_leaves_everything_as_it_was(
    target: LocalTarget, bundles: dict[int, Path], tmp_path: Path, home: Path, how: str
) -> None:
    bad = tmp_path / "bad"
    shutil.copytree(bundles[2], bad)
    if how == "graph":
        (bad / "model.onnx").write_bytes(b"something else")
    else:
        (bad / "bundle.json").write_text("{")
    with pytest.raises(DeploymentError, match=r"did not become ready(.|\n)*(model\.onnx|bundle\.json)"):
        target.deploy(request(bad, 3), lambda text: None)
    assert not (home / "endpoints" / NAME).exists()
    assert processes(home) == []
    if how == "manifest":
        return
    endpoint = deploy(target, bundles, 1)
    with pytest.raises(DeploymentError, match=r"did not become ready(.|\n)*model\.onnx"):
        target.deploy(request(bad, 3, port=None), lambda text: None)
    # Another version under a name that serves: it stays, too.
    wrong = request(bad, 3, port=None)
    replaced = DeploymentRequest(NAME, "version-1", wrong.model, wrong.registry, wrong.options)
    with pytest.raises(DeploymentError, match="did not become ready"):
        target.deploy(replaced, lambda text: None)
    assert target.endpoint(NAME) == endpoint
    assert score(target.access(NAME), BLUE, "image/png").label == "blue"


def test_a_taken_port_is_an_error_that_leaves_nothing(
    target: LocalTarget, bundles: dict[int, Path], home: Path
) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(DeploymentError, match=f"port {port}, asked for with --port, is taken"):
            target.deploy(request(bundles[1], 1, port=port), lambda text: None)
    assert not (home / "endpoints" / NAME).exists()
    wait(5, lambda: not processes(home))


_DEPLOY = """
import sys
from pathlib import Path
from testing.integration.test_local_target import LocalTarget, request
LocalTarget().deploy(request(Path(sys.argv[1]), int(sys.argv[2])), print)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["ctrl-c", "kill"])
def test_a_deploy_that_is_interrupted_leaves_no_half(
    target: LocalTarget, bundles: dict[int, Path], home: Path, number: signal.Signals
) -> None:
    folder = home / "endpoints" / NAME
    begun = 1
    if number == signal.SIGINT:
        deploy(target, bundles, 1)
        begun = 2
    command = [sys.executable, "-c", _DEPLOY, str(bundles[begun]), str(begun)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        log = folder / "router.log"
        wait(20, lambda: log.is_file() and log.read_text().count("server_started") == begun)
        process.send_signal(number)
        process.communicate(timeout=60)
        assert process.returncode in (-number, 1)
    if number == signal.SIGINT:
        assert [item.name for item in target.endpoint(NAME).deployments] == ["version-1"]
        assert len(processes(home)) == 3
    else:  # the router notices that nobody asks any more
        wait(30, lambda: not processes(home) and not folder.exists())


def test_two_deploys_at_once_wait_for_each_other(target: LocalTarget, bundles: dict[int, Path]) -> None:
    said: list[str] = []
    threads = [threading.Thread(target=deploy, args=(target, bundles, version, said)) for version in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    endpoint = target.endpoint(NAME)
    assert {item.name for item in endpoint.deployments} == {"version-1", "version-2"}
    assert sorted(item.traffic for item in endpoint.deployments) == [0, 100]
    assert any("waiting for another command" in text for text in said)


def test_a_process_id_that_belongs_to_another_now_is_left_alone(target: LocalTarget, home: Path) -> None:
    folder = home / "endpoints" / NAME
    folder.mkdir(parents=True)
    (folder / "local.json").write_text("{")  # so that the router could only be ended by its process id
    with subprocess.Popen(["sleep", "60"]) as other:
        (folder / "router.lock").write_text(str(other.pid))
        assert target.endpoint(NAME).state is EndpointStatus.FAILED
        target.delete(NAME)
        assert other.poll() is None
        other.kill()


def test_the_way_over_the_command_line(
    target: LocalTarget, bundles: dict[int, Path], store: Path, tmp_path: Path
) -> None:
    from vision_mlops.cli.main import app

    def mlops(*words: str, code: int = 0) -> str:
        result = CliRunner().invoke(app, words)
        assert result.exit_code == code, (words, result.output, result.exception)
        return result.stdout

    (tmp_path / "blue.png").write_bytes(BLUE)
    mlops("models", "register", "--bundle", str(bundles[1]), "--name", NAME)
    made = mlops("deploy", "--to", "local", "--model", NAME, "--workers", "1")
    port = int(made.strip().rpartition(":")[2].partition("/")[0])
    assert port >= 19000
    mlops("models", "register", "--bundle", str(bundles[2]), "--name", NAME)
    made = mlops("deploy", "--to", "local", "--model", NAME, "--traffic", "10", "--workers", "1", "--json")
    assert {item["name"]: item["traffic"] for item in json.loads(made)["deployments"]} == {
        "version-1": 90,
        "version-2": 10,
    }
    mlops("endpoint", "traffic", NAME, "version-1=80", "version-2=20")
    listed = json.loads(mlops("endpoint", "list", "--json"))
    assert [item["traffic"] for item in listed[0]["deployments"]] == [80, 20]
    asked = mlops(
        "endpoint", "test", NAME, "--image", str(tmp_path / "blue.png"), "--deployment", "version-2", "--json"
    )
    assert [(row["label"], row["deployment"]) for row in json.loads(asked)] == [("green", "version-2")]
    assert "serving colours" in mlops("endpoint", "logs", NAME)
    mlops("endpoint", "delete", NAME)
    assert mlops("endpoint", "list", "--json").strip() == "[]"
    assert processes(store) == []
