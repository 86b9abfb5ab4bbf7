"""Rollouts on a target in memory: all ways through, all refusals, and an end at every call that leaves nothing half."""

from __future__ import annotations

import json
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from testing.support.rollout_world import LIMITS, PACE, STEPS, Killed, World, tiny_bundle
from typer.testing import CliRunner

from vision_mlops.cli.main import app
from vision_mlops.core.errors import AzureError, DeploymentError, RegistryError
from vision_mlops.endpoints.contract import DeploymentOptions, EndpointStatus
from vision_mlops.endpoints.deployment import ROLLOUT_TAG
from vision_mlops.rollout.driver import RolloutResult
from vision_mlops.rollout.driver_process import status
from vision_mlops.rollout.rollout_control import abort, promote, resume, start
from vision_mlops.rollout.rollout_report import RolloutOutcome, as_text, read_report, rollouts_folder
from vision_mlops.rollout.rollout_settings import RolloutLimits, RolloutOptions, parse_steps
from vision_mlops.rollout.rollout_state import pack, unpack


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bundle(tmp_path_factory.mktemp("bundles") / "one")


@pytest.fixture
def world(bundle: Path) -> World:
    return World.make(bundle)


def begin(world: World, **changes: Any) -> RolloutResult:
    how = {name: changes.pop(name) for name in ("steps", "limits", "wishes", "request") if name in changes}
    request = how.pop("request", None) or world.request(2)
    return start(world.controls(**changes), request, **{"steps": STEPS, "limits": LIMITS, **how})


def report_of(ending: RolloutResult) -> dict[str, Any]:
    assert ending.report is not None
    return read_report(ending.report.folder)


@pytest.mark.parametrize("counting", [True, False], ids=["counted", "probed"])
def test_a_good_candidate_goes_through_all_steps(bundle: Path, counting: bool) -> None:
    world = World.make(bundle, counting=counting, live=20)
    ending = begin(world)
    assert ending.outcome is RolloutOutcome.PROMOTED
    world.has_only(2)
    one, two = "version-1", "version-2"
    assert world.target.history == [({one: 100}, {two: 50}), ({one: 50, two: 50}, {}), ({two: 100}, {})]
    report = report_of(ending)
    assert [step["verdict"] for step in report["steps"]] == ["continue"] * 3
    assert report["outcome"] == "promoted"
    assert (rollouts_folder("colours") / ending.report.folder.name / "report.txt").read_text().startswith("Rollout at")  # type: ignore[union-attr]


def judged(world: World, number: int, verdict: str, accuracy: float) -> None:
    version = world.registry.versions[number]
    world.registry.versions[number] = replace(version, verdict=verdict, metrics={"accuracy": accuracy})


def test_the_page_shows_the_decision_both_versions_and_the_traffic(world: World) -> None:
    judged(world, 1, "promote", 0.875)
    judged(world, 2, "promote", 0.9375)
    ending = begin(world)
    assert ending.report is not None
    one, two, report = "version-1", "version-2", report_of(ending)
    assert [(entry["traffic"], entry["mirror"]) for entry in report["traffic"]] == [
        ({one: 100}, {}), ({one: 100}, {two: 50}), ({one: 50, two: 50}, {}), ({two: 100}, {})
    ]  # fmt: skip
    page = ending.report.page.read_text()
    assert '<p class="outcome promoted">promoted</p>' in page
    assert "<tr><td>candidate</td><td>version-2</td><td>colours:2</td><td>0.9375</td><td>promote</td></tr>" in page
    assert "<tr><td>champion</td><td>version-1</td><td>colours:1</td><td>0.8750</td><td>promote</td></tr>" in page
    shares = re.findall(r"<tr><td>[^<]* UTC</td><td>(\d+)%</td><td>(\d+)%</td><td>(\d+)%</td></tr>", page)
    assert shares == [("0", "100", "0"), ("0", "100", "50"), ("50", "50", "0"), ("100", "0", "0")]
    points = re.findall(r'class="candidate" points="([^"]*)"', page)[0].split()
    heights = [float(point.split(",")[1]) for point in points]
    assert heights == [172, *[172] * 4, 92, 92, 12, 12, 172]
    assert not re.search(r"https?://|src=|href=|@import|url\(", page), "it is whole without a network"
    assert "accuracy 0.9375, verdict promote" in as_text(report)


def test_the_page_of_a_rollback_says_why_and_escapes_what_others_wrote(world: World) -> None:
    world.behave(every=1, status=500)
    world.target.logs = lambda name, deployment, lines: "<script>alert(1)</script>"  # type: ignore[method-assign]
    ending = begin(world)
    assert ending.report is not None
    page = ending.report.page.read_text()
    assert '<p class="outcome rolled-back">rolled back</p>' in page
    assert "error rate" in page.split("<h2>Versions</h2>")[0]
    assert "&lt;script&gt;" in page
    assert "<script" not in page
    assert report_of(ending)["traffic"][-1]["traffic"] == {"version-1": 100}


@pytest.mark.parametrize("verdict", ["reject", "inconclusive"])
def test_a_version_that_the_gate_did_not_let_through(world: World, verdict: str) -> None:
    judged(world, 2, verdict, 0.5)
    with pytest.raises(DeploymentError, match=rf"on colours:2 is {verdict}\n  -> .* with --force"):
        begin(world)
    assert not world.under_way()
    assert list(world.target.deployments) == ["version-1"]
    assert not list(rollouts_folder("colours").glob("*/report.*"))
    ending = begin(world, wishes=RolloutOptions(force=True))
    assert ending.outcome is RolloutOutcome.PROMOTED
    assert f"warning: the verdict of the gate on colours:2 is {verdict}" in world.said
    assert report_of(ending)["candidate"]["verdict"] == verdict


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "wrong classes": ({"wrong": True}, "disagreement"),
    "twice as slow": ({"milliseconds": 20.0}, "latency"),
    "slow without telling": ({"milliseconds": 20.0, "work": False}, "latency"),
    "every tenth fails": ({"every": 10}, "error rate"),
    "no answers": ({"every": 1, "status": 0}, ""),
    "refuses images": ({"every": 1, "status": 422}, "disagreement"),
}


@pytest.mark.parametrize("counting", [True, False], ids=["counted", "probed"])
@pytest.mark.parametrize(("how", "reason"), BAD.values(), ids=list(BAD))
def test_a_bad_candidate_goes_within_the_first_step(
    bundle: Path, how: dict[str, Any], reason: str, counting: bool
) -> None:
    world = World.make(bundle, counting=counting)
    world.behave(**how)
    limits = replace(LIMITS, min_requests=50, step_timeout=1 if not reason else 20)
    ending = begin(world, limits=limits)
    assert ending.outcome is RolloutOutcome.ROLLED_BACK
    assert any(reason in item for item in ending.reasons)
    world.has_only(1)
    assert world.target.history == [({"version-1": 100}, {"version-2": 50}), ({"version-1": 100}, {})]
    report = report_of(ending)
    assert report["log"] == "log of version-2"
    assert [step["verdict"] for step in report["steps"]] == ["fail"]
    assert report["steps"][0]["figures"]["candidate"]["requests"] > 0


def test_wishes_keep_deployments_and_alias(bundle: Path) -> None:
    world = World.make(bundle)
    assert begin(world, wishes=RolloutOptions(keep_champion=True, no_alias=True)).outcome is RolloutOutcome.PROMOTED
    assert sorted(world.target.deployments) == ["version-1", "version-2"]
    assert world.registry.promoted == []
    world = World.make(bundle)
    world.behave(wrong=True)
    assert begin(world, wishes=RolloutOptions(keep_candidate=True)).outcome is RolloutOutcome.ROLLED_BACK
    assert sorted(world.target.deployments) == ["version-1", "version-2"]
    assert world.target.deployments["version-1"].traffic == 100


def test_copies_are_as_many_as_the_target_gives(bundle: Path) -> None:
    world = World.make(bundle, mirrors_at_most=0)
    assert begin(world).outcome is RolloutOutcome.PROMOTED
    assert world.target.history[0] == (
        {"version-1": 50, "version-2": 50},
        {},
    )  # at the first step nothing had to change
    assert any("copies no requests" in line for line in world.said)


def test_a_candidate_that_does_not_become_ready_is_reported(world: World) -> None:
    world.target.broken = "version-2 did not become ready: its log says no"
    ending = begin(world)
    assert ending.outcome is RolloutOutcome.ROLLED_BACK
    assert "its log says no" in ending.reasons[0]
    world.has_only(1)


def test_a_candidate_that_dies_is_rolled_back(world: World) -> None:
    def die(call: str) -> None:
        if call == "counts" and world.target.history:
            found = world.target.deployments["version-2"]
            world.target.deployments["version-2"] = replace(found, state=EndpointStatus.FAILED, problem="it crashed")

    world.target.before = die
    ending = begin(world, limits=replace(LIMITS, min_seconds=5))
    assert "it crashed" in ending.reasons[0]
    world.has_only(1)


def test_an_alias_that_is_refused_is_told(world: World) -> None:
    def refuse(call: str) -> None:
        raise RegistryError("no rights", "ask for them")

    world.registry.before = refuse
    ending = begin(world)
    assert ending.outcome is RolloutOutcome.PROMOTED
    assert "no rights" in ending.problem
    assert list(world.target.deployments) == ["version-2"]


# An end at any call


def calls_of(bundle: Path, run: Callable[[World], Any]) -> int:
    world = World.make(bundle)
    count = 0

    def add(call: str) -> None:
        nonlocal count
        count += call != "counts"

    world.target.before = world.target.after = world.registry.before = add
    run(world)
    return count


def ending_at(world: World, number: int, error: Callable[[], BaseException]) -> None:
    """Raise at the n-th call, before or after its effect; readings of the counts do not count, as time says how many."""
    count = 0

    def perhaps(call: str) -> None:
        nonlocal count
        count += call != "counts"
        if count == number and call != "counts":
            raise error()

    world.target.before = world.target.after = world.registry.before = perhaps


def calm(world: World) -> None:
    world.target.before = world.target.after = world.registry.before = lambda call: None


@pytest.mark.slow
@pytest.mark.parametrize("bad", [False, True], ids=["good", "bad"])
@pytest.mark.parametrize("then", [resume, abort, promote], ids=["resume", "abort", "promote"])
def test_killed_at_any_call_then_ended_whole(
    bundle: Path, home: Path, then: Callable[..., RolloutResult], bad: bool
) -> None:
    """At every call to target and registry in turn, before and after its effect, the process ends."""

    def make() -> World:
        world = World.make(bundle)
        world.behave(wrong=bad)
        return world

    def run(world: World) -> RolloutResult:
        world.behave(wrong=bad)
        return begin(world, steps=parse_steps("mirror=50,100"), pace=replace(PACE, beat=60))

    total = calls_of(bundle, run)
    assert total > 20
    interrupted = 0
    for number in range(1, total + 1):
        world = make()
        ending_at(world, number, Killed)
        with pytest.raises(Killed):
            run(world)
        calm(world)
        if not world.under_way():
            # Before its first step or after its last one: nothing is left to be done.
            number_left = 2 if "version-2" in world.target.deployments else 1
            world.has_only(number_left)
            continue
        interrupted += 1
        state = unpack(world.target.tags[ROLLOUT_TAG])
        assert sum(item.traffic for item in world.target.deployments.values()) == 100
        if then is promote and ("version-2" not in world.target.deployments or state.phase == "rollback"):
            with pytest.raises(DeploymentError):
                promote(world.controls())
            assert abort(world.controls()).outcome is RolloutOutcome.ROLLED_BACK
            world.has_only(1)
            continue
        outcome = then(world.controls(pace=replace(PACE, beat=60))).outcome
        gone = "version-1" not in world.target.deployments
        world.has_only(2 if outcome is RolloutOutcome.PROMOTED else 1)
        if then is abort:
            assert outcome is (RolloutOutcome.PROMOTED if gone else RolloutOutcome.ROLLED_BACK)
        elif then is resume:
            assert outcome is (RolloutOutcome.ROLLED_BACK if bad else RolloutOutcome.PROMOTED)
        else:
            assert outcome is RolloutOutcome.PROMOTED
    assert interrupted > 10


@pytest.mark.slow
def test_azure_that_refuses_at_any_call_leaves_what_can_go_on(bundle: Path) -> None:
    def run(world: World) -> RolloutResult:
        return begin(world, steps=parse_steps("mirror=50,100"), pace=replace(PACE, beat=60))

    for number in range(1, calls_of(bundle, run) + 1):
        world = World.make(bundle)
        ending_at(world, number, lambda: AzureError("Azure has a fault", "try again", 503))
        said = ""
        try:
            outcome = run(world).outcome
        except (AzureError, DeploymentError) as error:
            said = str(error)
        calm(world)
        if said and world.under_way():
            told = status(world.target, "colours")["rollout"]
            hints = ["mlops rollout resume colours --on memory", "mlops rollout abort colours --on memory"]
            assert any(hint in said for hint in hints)
            assert told["driven_by"] == "nobody"
            outcome = resume(world.controls()).outcome
        elif said:
            outcome = RolloutOutcome.PROMOTED if "version-2" in world.target.deployments else RolloutOutcome.ROLLED_BACK
        world.has_only(2 if outcome is RolloutOutcome.PROMOTED else 1)


def test_a_rollback_that_fails_says_what_to_run(world: World) -> None:
    world.behave(wrong=True)

    def refuse(call: str) -> None:
        if call == "set_traffic" and world.target.history:
            raise AzureError("Azure has a fault", "try again", 503)

    world.target.before = refuse
    with pytest.raises(DeploymentError) as caught:
        begin(world)
    assert "mlops rollout abort colours --on memory" in str(caught.value)
    assert "mlops endpoint traffic colours version-1=100 --on memory" in str(caught.value)
    calm(world)
    assert resume(world.controls()).outcome is RolloutOutcome.ROLLED_BACK
    world.has_only(1)


# Signals, orders, other drivers


@pytest.fixture
def long(world: World) -> Iterator[tuple[World, threading.Thread, list[Any]]]:
    """A rollout under way in a thread, at its first step for longer than a test lasts: of itself it looks up nothing."""
    found: list[Any] = []

    def run() -> None:
        try:
            found.append(begin(world, limits=replace(LIMITS, min_seconds=1000), pace=replace(PACE, beat=1000)))
        except DeploymentError as error:
            found.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    wait_for(lambda: bool(world.target.history))
    yield world, thread, found
    thread.join(60)
    assert not thread.is_alive()


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


Long = tuple[World, threading.Thread, list[Any]]


@pytest.mark.parametrize(("order", "left"), [(abort, 1), (promote, 2)], ids=["abort", "promote"])
def test_another_process_ends_it_within_a_second(long: Long, order: Callable[..., RolloutResult], left: int) -> None:
    world, thread, found = long
    assert status(world.target, "colours")["rollout"]["driven_by"] == "a process on this machine"
    with pytest.raises(DeploymentError, match="another process on this machine"):
        resume(world.controls())
    with pytest.raises(DeploymentError, match="another process on this machine"):
        begin(world)
    ending = order(world.controls())
    thread.join(60)
    assert not thread.is_alive()
    assert ending.outcome is found[0].outcome is (RolloutOutcome.PROMOTED if left == 2 else RolloutOutcome.ROLLED_BACK)
    world.has_only(left)


def test_a_traffic_that_somebody_changes_stops_it(long: Long) -> None:
    world, thread, found = long
    world.target.set_traffic("colours", {"version-1": 70, "version-2": 30}, {})
    from vision_mlops.rollout.driver_process import wake

    wake("memory", "colours")
    thread.join(60)
    assert "was changed by someone else" in str(found[0])
    hurry(world)
    assert resume(world.controls()).outcome is RolloutOutcome.PROMOTED


@pytest.mark.slow
def test_the_lease_is_renewed_in_time(bundle: Path) -> None:
    world = World.make(bundle)
    until: list[int] = []

    def note(call: str) -> None:
        if call == "set_tags" and ROLLOUT_TAG in world.target.tags and world.target.history:
            until.append(unpack(world.target.tags[ROLLOUT_TAG]).until)

    world.target.after = note
    pace = replace(PACE, lease=2)
    begin(world, limits=replace(LIMITS, min_seconds=1.5), steps=parse_steps("mirror=50,100"), pace=pace)
    assert len(set(until)) > 2
    assert len(until) < 20  # and not at each look


def test_a_machine_that_took_over_is_left_alone(long: Long) -> None:
    world, thread, found = long
    state = unpack(world.target.tags[ROLLOUT_TAG])
    there = replace(state, driver="other1", until=int(time.time()) + 60)
    world.target.tags[ROLLOUT_TAG] = pack(there)
    from vision_mlops.rollout.driver_process import wake

    wake("memory", "colours")
    thread.join(60)
    assert "another machine drives" in str(found[0])
    assert world.target.tags[ROLLOUT_TAG] == pack(there)
    with pytest.raises(DeploymentError, match="another machine drives"):
        resume(world.controls())
    assert abort(world.controls(take_over=True)).outcome is RolloutOutcome.ROLLED_BACK
    world.has_only(1)


@pytest.mark.slow
def test_an_abort_waits_for_another_machine_until_its_lease_ends(world: World) -> None:
    interrupt_in(world, "counts", signal.SIGTERM)
    assert begin(world, limits=replace(LIMITS, min_seconds=30)).outcome is RolloutOutcome.PAUSED
    calm(world)
    state = unpack(world.target.tags[ROLLOUT_TAG])
    world.target.tags[ROLLOUT_TAG] = pack(replace(state, driver="other1", until=int(time.time()) + 1))
    assert status(world.target, "colours")["rollout"]["driven_by"] == "another machine"
    assert abort(world.controls()).outcome is RolloutOutcome.ROLLED_BACK
    world.has_only(1)


def hurry(world: World) -> None:
    """Make a rollout that takes long go on fast."""
    state = unpack(world.target.tags[ROLLOUT_TAG])
    world.target.tags[ROLLOUT_TAG] = pack(replace(state, limits=LIMITS))


def interrupt_in(world: World, call: str, number: int) -> None:
    sent = False

    def send(made: str) -> None:
        nonlocal sent
        if made == call and not sent and world.target.history:
            sent = True
            os.kill(os.getpid(), number)

    world.target.before = send


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["INT", "TERM"])
def test_a_signal_pauses_and_it_goes_on(world: World, number: int) -> None:
    interrupt_in(world, "counts", number)
    ending = begin(world, limits=replace(LIMITS, min_seconds=30))
    assert ending.outcome is RolloutOutcome.PAUSED
    assert "step 1 of 3: copies of 50% of the traffic (version-1 100%, copies of 50% to version-2)" in ending.reasons[0]
    assert world.target.deployments["version-2"].mirror == 50
    told = status(world.target, "colours")["rollout"]
    assert (told["driven_by"], told["step"], told["mirror"]) == ("nobody", "mirror=50", {"version-2": 50})
    hurry(world)
    ending = begin(world)
    assert ending.outcome is RolloutOutcome.PROMOTED
    world.has_only(2)
    assert [step["step"] for step in report_of(ending)["steps"]] == ["mirror=50", "mirror=50", "50", "100"]
    assert status(world.target, "colours")["last"]["outcome"] == "promoted"


def test_a_signal_rolls_back_where_that_is_asked(world: World) -> None:
    interrupt_in(world, "counts", signal.SIGTERM)
    ending = begin(world, limits=replace(LIMITS, min_seconds=30), roll_back_on_interrupt=True)
    assert (ending.outcome, ending.reasons) == (RolloutOutcome.ROLLED_BACK, ("it was interrupted",))
    world.has_only(1)


def test_options_that_are_not_known_any_more_are_asked_for(world: World) -> None:
    def kill(call: str) -> None:
        if call == "deploy":
            raise Killed

    world.target.before = kill
    options = DeploymentOptions(environment={"A": "b"})
    with pytest.raises(Killed):
        begin(world, request=world.request(2, options))
    calm(world)
    with pytest.raises(DeploymentError, match="its options are no longer known"):
        resume(world.controls())
    assert begin(world, request=world.request(2, options)).outcome is RolloutOutcome.PROMOTED


# The command


def command(world: World, monkeypatch: pytest.MonkeyPatch, *words: str) -> Any:
    monkeypatch.setattr("vision_mlops.endpoints.targets.open_target", lambda name: world.target)
    monkeypatch.setattr("vision_mlops.registry.open_registry", lambda: world.registry)
    monkeypatch.setattr("vision_mlops.rollout.probes.score", lambda *given, timeout_s: world.target.ask(*given))
    monkeypatch.setattr("vision_mlops.rollout.rollout_settings.Pace", lambda probe_rate: PACE)
    found = CliRunner().invoke(app, ["rollout", *words, "--on", "memory"])
    if found.exception is not None and not isinstance(found.exception, SystemExit):
        raise found.exception
    return found


QUICK = ("--min-requests", "5", "--min-seconds", "0", "--steps", "mirror=50,100", "--probe-rate", "1000")


@pytest.mark.slow
def test_the_command_and_its_exit_codes(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.behave(wrong=True)
    start_it = ("start", "colours", "-m", "colours:2", *QUICK)
    found = command(world, monkeypatch, *start_it)
    assert found.exit_code == 1
    assert "Rollout at colours (memory): rolled back" in found.stdout
    assert "! version-2 failed at step 1 of 2: copies of 50% of the traffic: disagreement" in found.stdout
    assert "the last one driven from here was rolled back" in command(world, monkeypatch, "status", "colours").stdout
    world.behave()
    interrupt_in(world, "counts", signal.SIGTERM)
    found = command(world, monkeypatch, *start_it)
    assert found.exit_code == 130
    assert "continue with mlops rollout resume colours, or end it with mlops rollout abort colours" in found.stderr
    shown = command(world, monkeypatch, "status", "colours").stdout
    assert "at       step 1 of 2: copies of 50% of the traffic" in shown
    assert "run by   nobody" in shown
    calm(world)
    found = command(world, monkeypatch, "resume", "colours", "--json")
    assert found.exit_code == 0
    assert json.loads(found.stdout)["outcome"] == "promoted"
    found = command(world, monkeypatch, "resume", "colours", "--on-interrupt", "stop")
    assert found.exit_code == 2
    assert "'pause'" in found.stderr


@pytest.mark.parametrize("order", ["abort", "promote"])
def test_the_command_ends_what_nobody_drives(world: World, monkeypatch: pytest.MonkeyPatch, order: str) -> None:
    interrupt_in(world, "counts", signal.SIGTERM)
    assert command(world, monkeypatch, "start", "colours", "-m", "colours:2", *QUICK).exit_code == 130
    calm(world)
    assert command(world, monkeypatch, order, "colours").exit_code == 0
    world.has_only(1 if order == "abort" else 2)


# Refusals


def shared(world: World) -> None:
    world.target.deploy(world.request(3), lambda text: None)
    world.target.set_traffic("colours", {"version-1": 60, "version-3": 40}, {})


def without_traffic(world: World) -> None:
    found = world.target.deployments["version-1"]
    world.target.deployments["version-1"] = replace(found, traffic=0)


def other_rollout(world: World) -> None:
    interrupt_in(world, "counts", signal.SIGTERM)
    how = {"steps": STEPS, "limits": replace(LIMITS, min_seconds=30)}
    start(world.controls(), world.request(3), **how)  # type: ignore[arg-type]
    calm(world)


def taken_name(world: World) -> None:
    world.target.deployments["version-2"] = replace(
        world.target.deployments["version-1"], name="version-2", version="3", traffic=0
    )


def unsplit(world: World) -> None:
    world.target.splits_traffic = False


def deaf(world: World) -> None:
    world.target.behaviours["version-1"].every = 1


def unknown_champion(world: World) -> None:
    del world.registry.versions[1]


def broken_tag(world: World) -> None:
    world.target.tags[ROLLOUT_TAG] = "{}"


REFUSED = {
    "shared": (shared, "split already: version-1 60%, version-3 40%"),
    "no traffic": (without_traffic, "there is no champion"),
    "other rollout": (other_rollout, "a rollout of version-3"),
    "taken name": (taken_name, "deployment 'version-2' of 'colours' is colours:3"),
    "does not split": (unsplit, "has only one deployment"),
    "champion fails": (deaf, "the champion version-1 does not score"),
    "unknown champion": (unknown_champion, "the classes of the champion are not known"),
    "broken tag": (broken_tag, "does not have the state of a rollout"),
}


@pytest.mark.parametrize(("how", "message"), REFUSED.values(), ids=list(REFUSED))
def test_refused_before_anything_is_changed(world: World, how: Callable[[World], None], message: str) -> None:
    how(world)
    before = (dict(world.target.deployments), dict(world.target.tags))
    with pytest.raises(DeploymentError) as caught:
        begin(world)
    assert message in str(caught.value)
    assert (world.target.deployments, world.target.tags) == before


def test_the_champion_is_no_candidate(world: World) -> None:
    with pytest.raises(DeploymentError, match="has the traffic of 'colours' already"):
        begin(world, request=world.request(1))


def test_other_classes_are_refused_unless_forced(world: World, tmp_path: Path) -> None:
    world.registry.bundles[2] = tiny_bundle(tmp_path / "other", ("a", "c"))
    world.behave(wrong=True)
    with pytest.raises(DeploymentError, match="only one of them has b, c"):
        begin(world)
    images = tmp_path / "images"
    images.mkdir()
    (images / "a.png").write_text("a")
    assert begin(world, wishes=RolloutOptions(force=True), images=images).outcome is RolloutOutcome.PROMOTED
    assert "labels are not compared: the classes differ" in world.said


def test_images_must_be_there(world: World, tmp_path: Path) -> None:
    with pytest.raises(DeploymentError, match="the folder has no images"):
        begin(world, images=tmp_path)


def test_options_that_the_target_lacks_are_refused(world: World) -> None:
    with pytest.raises(DeploymentError, match="--cpu: not available with --to memory"):
        begin(world, request=world.request(2, DeploymentOptions(cpu=2.0)))


def test_nothing_to_resume_promote_or_abort(world: World) -> None:
    for call in (resume, promote, abort):
        with pytest.raises(DeploymentError, match="is under way"):
            call(world.controls())
    assert status(world.target, "colours") == {"endpoint": "colours", "rollout": None, "last": None}


def test_a_tag_that_cannot_be_read_is_mended_by_abort(world: World) -> None:
    shared(world)
    broken_tag(world)
    with pytest.raises(DeploymentError, match="version-1 has all traffic"):
        abort(world.controls())
    assert world.target.deployments["version-1"].traffic == 100
    assert world.target.tags == {"owner": "somebody"}


def test_limits_and_steps_of_the_start_hold_after_an_interruption(world: World) -> None:
    interrupt_in(world, "counts", signal.SIGTERM)
    limits = RolloutLimits(min_requests=7, min_seconds=30, step_timeout=40)
    begin(world, limits=limits, steps=parse_steps("20,100"), wishes=RolloutOptions(keep_champion=True))
    state = unpack(world.target.tags[ROLLOUT_TAG])
    assert (state.limits, state.steps, state.wishes) == (
        limits,
        parse_steps("20,100"),
        RolloutOptions(keep_champion=True),
    )
    assert json.loads(world.target.tags[ROLLOUT_TAG])["l"] == {"n": 7, "t": 40, "s": 30}
