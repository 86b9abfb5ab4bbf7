"""`mlops rollout start --create`, and `abort --if-running`: one command for the first version and for every later one."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from testing.support.rollout_world import World, tiny_bundle
from typer.testing import CliRunner

from vision_mlops.cli.main import app
from vision_mlops.core.errors import DeploymentError
from vision_mlops.rollout.first_version import make_first
from vision_mlops.rollout.rollout_control import is_under_way, start
from vision_mlops.rollout.rollout_report import RolloutOutcome
from vision_mlops.rollout.rollout_settings import RolloutOptions


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World.make(tiny_bundle(tmp_path / "bundle"))


def test_where_nothing_serves_the_candidate_gets_everything(world: World) -> None:
    world.target.deployments.clear()
    ended = make_first(world.controls(), world.request(2), RolloutOptions())
    assert ended is not None
    assert ended.outcome is RolloutOutcome.PROMOTED
    assert ended.reasons == ("colours:2 is the first version of colours: it has all traffic",)
    world.has_only(2)


def test_the_same_again_changes_nothing(world: World) -> None:
    changes: list[str] = []
    world.target.before = lambda call: changes.append(call) if call in ("deploy", "set_traffic", "set_tags") else None
    ended = make_first(world.controls(), world.request(1), RolloutOptions())
    assert ended is not None
    assert ended.outcome is RolloutOutcome.PROMOTED
    assert (changes, world.registry.promoted) == ([], [])


def test_the_alias_follows_where_it_was_left_behind(world: World) -> None:
    world.registry.versions[1] = replace(world.registry.versions[1], aliases=())
    make_first(world.controls(), world.request(1), RolloutOptions(no_alias=True))
    assert world.registry.promoted == []
    make_first(world.controls(), world.request(1), RolloutOptions())
    assert world.registry.promoted == [1]


def test_beside_a_champion_it_is_a_rollout(world: World) -> None:
    assert make_first(world.controls(), world.request(2), RolloutOptions()) is None
    assert list(world.target.deployments) == ["version-1"]


def test_one_that_goes_on_is_left_to_the_rollout(world: World) -> None:
    world.target.before = lambda call: (_ for _ in ()).throw(DeploymentError("gone", "")) if call == "counts" else None
    with pytest.raises(DeploymentError):
        start(world.controls(), world.request(2))
    assert is_under_way(world.controls())
    assert make_first(world.controls(), world.request(1), RolloutOptions()) is None


def test_a_first_version_that_the_gate_refused_is_not_served(world: World) -> None:
    world.target.deployments.clear()
    world.registry.versions[2] = replace(world.registry.versions[2], verdict="inconclusive")
    with pytest.raises(DeploymentError, match="the verdict of the gate on colours:2 is inconclusive"):
        make_first(world.controls(), world.request(2), RolloutOptions())
    assert not world.target.deployments


def test_aborting_what_does_not_run_is_fine_where_it_is_asked_so(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vision_mlops.endpoints.targets.open_target", lambda name: world.target)
    monkeypatch.setattr("vision_mlops.registry.open_registry", lambda: world.registry)
    words = ["rollout", "abort", "colours", "--on", "memory"]
    ended = CliRunner().invoke(app, [*words, "--if-running"])
    assert ended.exit_code == 0, ended.output
    assert "no rollout of colours is under way: nothing to abort" in ended.stderr
    ended = CliRunner().invoke(app, words)
    assert isinstance(ended.exception, DeploymentError)
    assert re.search("is under way", str(ended.exception))
