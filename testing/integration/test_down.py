"""``mlops down``: what was made on the emulator is listed with its cost, removed, and then nothing is left."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from testing.support.azure_project import write_project
from testing.support.container_instances import Given, given
from testing.support.places import Place
from testing.support.web_apps import small_app

from vision_mlops.azure.clients import vault_client
from vision_mlops.config.azure_settings import AzureSettings
from vision_mlops.core.errors import AzureError
from vision_mlops.endpoints.aci import group_changes
from vision_mlops.endpoints.polling import polls
from vision_mlops.teardown.endpoint_things import why_idle
from vision_mlops.teardown.made_things import MadeThing
from vision_mlops.teardown.removal import remove

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def aci(place: Place, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Given:
    monkeypatch.setattr(group_changes, "polls", lambda seconds: polls(seconds, 0.25, 0.3))
    return given(place.loopback, tmp_path, monkeypatch)


def listed(run: Run, *words: str, code: int = 0) -> Any:
    ended, out, err = run("down", "--json", *words)
    assert ended == code, err
    return json.loads(out)


def titles(found: Any) -> list[str]:
    return [f"{item['kind']} {item['name']}" for item in found["things"]]


@pytest.mark.slow
def test_from_everything_to_nothing_left(
    run: Run, place: Place, aci: Given, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = write_project(tmp_path / "project")
    zip_ = tmp_path / "app.zip"
    zip_.write_bytes(small_app("hello"))
    app = ("app", "deploy", "colours-web", "--endpoint", "https://colours.example.org/score", "--package", str(zip_))
    publish = ("pipeline", "publish", str(project / "published.yml"), "--endpoint", "count-files", "-w", "colours")
    for words in (
        ("deploy", "--to", "aci", "--model", "colours:1", "--workers", "1"),
        ("deploy", "--to", "managed", "--model", "colours:1", "--image", "example.azurecr.io/scoring:1"),
        (*app, "--workload", "colours", "--timeout", "20"),
        publish,
        ("pipeline", "schedule", "create", str(project / "schedule.yml")),
    ):
        code, _, err = run(*words)
        assert code == 0, err
    cluster = place.client.compute.get("cpu-cluster")  # was there before, so it is not ours
    assert "mlops.made-by" not in (cluster.tags or {})

    found = listed(run, "--workload", "colours", "--dry-run")
    assert titles(found) == [
        "pipeline count-files", "online endpoint colours", "container group colours", "web app colours-web",
    ]  # fmt: skip
    prices = {item["kind"]: item["usd_per_month"] for item in found["things"]}
    assert prices == {"pipeline": 0, "online endpoint": 213.89, "container group": 36.06, "web app": 62.05}
    assert found["usd_per_month"] == 312.0
    assert [item["name"] for item in found["stays"]] == ["count-weekly"]  # names no workload
    assert (found["removed"], found["not_looked_at"]) == ([], [])

    code, _, err = run("down")
    assert (code, "there is no terminal to ask at: Remove 5 things for good?" in err) == (2, True)
    code, _out, err = run("down", "--yes")
    assert (code, "together about 312 USD a month" in err) == (0, True), err
    assert "removed: schedule count-weekly, pipeline count-files, online endpoint colours" in err
    assert run("down", "--yes")[2] == "nothing is left in Azure\n"
    assert list(vault_client(AzureSettings.load()).list_properties_of_secrets()) == []
    assert (place.loopback.sites.slots, list(place.client.online_endpoints.list())) == ({}, [])
    assert place.client.compute.get("cpu-cluster").name == "cpu-cluster"


@pytest.mark.slow
def test_what_cannot_be_removed_is_named_and_the_same_again_goes_on(
    run: Run, place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLOPS_AZURE_CPU_CLUSTER", "own-cluster")
    monkeypatch.setenv("MLOPS_AZURE_CPU_MIN_NODES", "1")
    project = write_project(tmp_path / "project")
    assert run("pipeline", "publish", str(project / "published.yml"), "--endpoint", "count-files")[0] == 0
    found = listed(run, "--dry-run")
    assert titles(found) == ["pipeline count-files", "cluster own-cluster"]
    assert (found["things"][1]["usd_per_month"], found["things"][1]["idle"]) == (213.89, "1 node even without a job")

    place.loopback.faults.fail("computes", 403, method="DELETE", code="AuthorizationFailed", retry_after=None)
    code, _, err = run("down", "--yes")
    assert code == 1
    assert "removed: pipeline count-files" in err
    assert "cluster own-cluster was not removed: compute cluster 'own-cluster'" in err
    assert "error: there is no terminal to ask at: Remove 1 thing for good?" in run("down")[2]
    code, _, err = run("down", "--yes")
    assert (code, "removed: cluster own-cluster" in err) == (0, True), err
    assert run("down")[2] == "nothing is left in Azure\n"


def test_what_cannot_be_looked_at_is_named(run: Run, place: Place) -> None:
    place.loopback.faults.fail("sites", 403, code="AuthorizationFailed", retry_after=None)
    code, _, err = run("down", "--dry-run")
    assert (code, "warning: not checked: web apps: " in err) == (1, True), err
    assert "ask for the roles Website Contributor and Web Plan Contributor" in err


def test_a_workload_that_is_misspelt_is_named(
    run: Run, place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "workloads").mkdir()
    (tmp_path / "workloads" / "birds.yml").write_text("name: birds\n")
    code, _, err = run("down", "--workload", "brids", "--dry-run")
    warning = (
        "warning: unknown workload 'brids': nothing here or in Azure belongs to it\n  -> did you mean 'birds'? Valid"
    )
    assert (code, err.startswith(warning)) == (0, True), err
    assert run("down", "--workload", "birds", "--dry-run") == (0, "", "nothing of birds is left in Azure\n")


def test_an_instance_that_never_stops_is_named(run: Run, place: Place) -> None:
    from azure.ai.ml.entities import ComputeInstance

    place.client.compute.begin_create_or_update(ComputeInstance(name="dev-machine", size="Standard_DS3_v2")).result()
    code, _, err = run("down")
    assert (code, "idle: compute instance dev-machine (Standard_DS3_v2, about 214 USD a month) runs" in err) == (
        0,
        True,
    )


def test_an_endpoint_idles_without_requests(place: Place) -> None:
    from azure.ai.ml.entities import ManagedOnlineEndpoint

    place.client.online_endpoints.begin_create_or_update(ManagedOnlineEndpoint(name="quiet-one")).result()
    settings, later = AzureSettings.load(), datetime.now(UTC) + timedelta(days=8)
    assert why_idle(settings, "quiet-one", 7) == ""  # it was made just now
    assert why_idle(settings, "quiet-one", 7, later) == "no request in 7 days"
    place.loopback._online.counts.note(f"{place.loopback.path()}/onlineEndpoints/quiet-one")
    assert why_idle(settings, "quiet-one", 9, datetime.now(UTC) + timedelta(days=8)) == ""
    place.loopback.faults.fail("metrics", 403, code="AuthorizationFailed", retry_after=None)
    assert why_idle(settings, "quiet-one", 7, later) == ""  # nobody may know


def test_ctrl_c_leaves_nothing_unnamed(capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    def refused() -> None:
        raise AzureError("it is in use", "wait")

    calls = {"a": lambda: None, "b": refused, "c": interrupted, "d": lambda: None}
    things = [MadeThing("cluster", name, "", frozenset(), 0.0, call) for name, call in calls.items()]
    result = remove(things, lambda text: None)
    assert [thing.name for thing in result.removed] == ["a"]
    assert [(thing.name, error.message) for thing, error in result.failed] == [("b", "it is in use")]
    assert ([thing.name for thing in result.left], result.interrupted, result.complete) == (["c", "d"], True, False)
