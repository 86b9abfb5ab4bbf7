"""Rollouts on the target ``local``, real servers under load: nothing is lost, and what is bad goes in the first step."""

from __future__ import annotations

import io
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from PIL import Image
from testing.support.bundles import make_bundle
from testing.support.prepared_data import COLOURS
from testing.support.rollout_world import MemoryRegistry
from testing.support.scoring_servers import Load, RunningServer

import vision_mlops
from vision_mlops.endpoints.contract import DeploymentOptions, DeploymentRequest, EndpointStatus
from vision_mlops.endpoints.local.local_endpoint import LocalEndpoint
from vision_mlops.endpoints.local.target import LocalTarget
from vision_mlops.model.bundle import bundle_id, read_bundle
from vision_mlops.registry import CHAMPION, ModelVersion, Registry, open_registry
from vision_mlops.rollout.driver import RolloutResult
from vision_mlops.rollout.driver_process import status
from vision_mlops.rollout.rollout_control import resume, start
from vision_mlops.rollout.rollout_endpoint import Controls
from vision_mlops.rollout.rollout_report import RolloutOutcome, read_report
from vision_mlops.rollout.rollout_settings import Pace, RolloutLimits

pytestmark = pytest.mark.slow
NAME = "colours"
GOOD, SWAPPED = 2, 3
SOURCE = Path(vision_mlops.__file__).parents[1]
# What servers run before they start: a network that is slow, a scorer that fails now and then. The product is as it is.
TROUBLE = """
import os, time
from vision_mlops.serving.scoring_queue import Scorer
from vision_mlops.model.predictor import Predictor

milliseconds, every, count = float(os.environ.get("SLOW_MS", 0)), int(os.environ.get("EVERY", 0)), 0
inner, scored = Scorer._outcome, Predictor.score


def outcome(self, job):
    global count
    count += 1
    return (None, RuntimeError("injected")) if every and count % every == 0 else inner(self, job)


def score(self, *images, **options):
    time.sleep(milliseconds / 1000)
    return scored(self, *images, **options)


Scorer._outcome, Predictor.score = outcome, score
"""


def image() -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (32, 32), COLOURS["blue"]).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    folder = tmp_path_factory.mktemp("bundles")
    return {
        1: make_bundle(folder / "one"),
        GOOD: make_bundle(folder / "good", image_size=48),
        SWAPPED: make_bundle(folder / "swapped", swap=True),
    }


class Site:
    """An endpoint whose champion, version 1, needs ten milliseconds for an image."""

    def __init__(self, bundles: dict[int, Path], folder: Path) -> None:
        self.target = LocalTarget()
        self.bundles = bundles
        self.folder = folder
        (folder / "sitecustomize.py").write_text(TROUBLE)
        self.registry = MemoryRegistry(
            {number: ModelVersion(NAME, number, (CHAMPION,) if number == 1 else ()) for number in bundles}, bundles
        )
        endpoint = self.target.deploy(self.request(1, port=0), lambda text: None)
        self.port = int(endpoint.url.rpartition(":")[2].partition("/")[0])

    def request(self, number: int, slow: int = 10, every: int = 0, **options: Any) -> DeploymentRequest:
        variables = {"PYTHONPATH": f"{self.folder}:{SOURCE}", "SLOW_MS": str(slow), "EVERY": str(every)}
        version, registry = self.registry.versions[number], cast(Registry, self.registry)
        given = DeploymentOptions(environment=variables, workers=1, **options)
        return DeploymentRequest(NAME, f"version-{number}", version, registry, given)

    def load(self, clients: int) -> Load:
        server = SimpleNamespace(port=self.port, process=SimpleNamespace(poll=lambda: None))
        return Load(cast(RunningServer, server), image(), clients=clients)

    def roll_out(self, request: DeploymentRequest, limits: RolloutLimits) -> RolloutResult:
        registry = cast(Registry, self.registry)
        controls = Controls(self.target, registry, NAME, lambda text: None, pace=Pace(probe_rate=50, look=0.2))
        return start(controls, request, limits=limits)


@pytest.fixture(scope="module")
def served(bundles: dict[int, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Site, Path]]:
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLOPS_HOME", str(home))
        patch.setenv("MLOPS_SERVING__PORT", "20000")  # others take and give up the usual ones at the same time
        site = Site(bundles, tmp_path_factory.mktemp("site"))
        yield site, home
        patch.setenv("MLOPS_HOME", str(home))
        end(site.target)


def end(target: LocalTarget) -> None:
    """Delete the endpoint, and wait for its router, which is a child of this process."""
    target.delete(NAME)
    endpoint = LocalEndpoint(NAME)
    deadline = time.monotonic() + 60
    while endpoint.is_running():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    time.sleep(0.2)
    assert not endpoint.is_running()  # which takes note of the end of the process, too


@pytest.fixture
def site(served: tuple[Site, Path], monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.setenv("MLOPS_HOME", str(served[1]))
    monkeypatch.setenv("MLOPS_SERVING__PORT", "20000")
    return served[0]


BAD: dict[str, tuple[int, dict[str, int], str]] = {
    "wrong classes": (SWAPPED, {}, "disagreement"),
    "twice as slow": (GOOD, {"slow": 20}, "latency"),
    "every tenth fails": (GOOD, {"every": 10}, "error rate"),
}


@pytest.mark.parametrize(("number", "how", "reason"), BAD.values(), ids=list(BAD))
def test_a_bad_candidate_goes_within_the_first_step_and_the_champion_answers(
    site: Site, number: int, how: dict[str, int], reason: str
) -> None:
    with site.load(clients=1) as load:
        ending = site.roll_out(site.request(number, **how), RolloutLimits())
        time.sleep(0.2)
    assert ending.outcome is RolloutOutcome.ROLLED_BACK
    assert any(reason in item for item in ending.reasons), ending.reasons
    assert (load.errors, set(load.statuses), len(load.models)) == ([], {200}, 1)
    endpoint = site.target.endpoint(NAME)
    assert [(item.name, item.traffic, item.mirror) for item in endpoint.deployments] == [("version-1", 100, 0)]
    assert endpoint.tags == {}
    assert ending.report is not None
    report = read_report(ending.report.folder)
    assert [step["step"] for step in report["steps"]] == ["mirror=50"]
    assert "serving colours" in report["log"]  # requests that went well are left out
    if reason == "error rate":
        assert "injected" in report["log"]


def test_a_good_candidate_takes_over_under_load_and_no_request_is_lost(site: Site) -> None:
    limits = RolloutLimits(min_requests=30, min_seconds=0, step_timeout=60)
    with site.load(clients=3) as load:
        ending = site.roll_out(site.request(GOOD), limits)
        time.sleep(0.2)
    assert ending.outcome is RolloutOutcome.PROMOTED, ending.reasons
    assert (load.errors, set(load.statuses)) == ([], {200})
    assert set(load.models) == {bundle_id(read_bundle(site.bundles[number])) for number in (1, GOOD)}
    endpoint = site.target.endpoint(NAME)
    assert [(item.name, item.traffic, item.state) for item in endpoint.deployments] == [
        ("version-2", 100, EndpointStatus.READY)
    ]
    assert (endpoint.tags, site.registry.promoted) == ({}, [GOOD])
    assert ending.report is not None
    assert [step["verdict"] for step in ending.report.content["steps"]] == ["continue"] * 4


# The command, with the real registry


def until(condition: Callable[[], object], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_the_command_is_killed_and_another_one_goes_on(
    store: Path, bundles: dict[int, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(SOURCE))
    registry = open_registry()
    for number in (1, GOOD):
        registry.register(bundles[number], NAME, aliases=(CHAMPION,) if number == 1 else ())
    target = LocalTarget()
    first = DeploymentRequest(
        NAME, "version-1", registry.get(f"{NAME}:1"), registry, DeploymentOptions(port=0, workers=1)
    )
    target.deploy(first, lambda text: None)
    try:
        how = ["--min-requests", "20", "--min-seconds", "1", "--workers", "1", "--probe-rate", "50", "--on", "local"]
        command = [sys.executable, "-m", "vision_mlops", "rollout", "start", NAME, "-m", f"{NAME}:2", *how]
        with subprocess.Popen(command, text=True, stderr=subprocess.PIPE) as process:
            until(lambda: target.endpoint(NAME).deployments[-1].traffic == 10, process)
            process.kill()
        state = status(target, NAME)["rollout"]
        assert (state["driven_by"], state["step"]) == ("nobody", "10")
        assert state["traffic"] == {"version-1": 90, "version-2": 10}
        pace = Pace(probe_rate=50)
        assert resume(Controls(target, registry, NAME, lambda text: None, pace=pace)).outcome is RolloutOutcome.PROMOTED
        assert registry.get(f"{NAME}@{CHAMPION}").version == 2
        (left,) = target.endpoint(NAME).deployments
        assert (left.name, left.traffic, target.endpoint(NAME).tags) == ("version-2", 100, {})
        (folder,) = (store / "rollouts" / NAME).glob("2*")
        assert [step["step"] for step in read_report(folder)["steps"]] == ["mirror=50", "10", "10", "50", "100"]
    finally:
        end(target)
