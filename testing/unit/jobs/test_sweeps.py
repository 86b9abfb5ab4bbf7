from __future__ import annotations

import csv
import itertools
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from vision_mlops.core.errors import PipelineError
from vision_mlops.jobs.definitions.models.sweep import Sweep
from vision_mlops.jobs.local.sweep.leaderboard import write_leaderboard
from vision_mlops.jobs.local.sweep.sweep_run import SweepResult, SweepRun
from vision_mlops.jobs.local.sweep.trials import Report, Trial, mlflow_metric_history, mlflow_metric_names
from vision_mlops.tracking import mlflow_runs


class Clock:
    """Time that passes when the test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Replay:
    """What a trial does: a report each second, then it ends."""

    values: Sequence[float]
    code: int = 0
    others: Sequence[str] = ("loss",)
    seconds: float | None = None  # as many as there are reports


@dataclass
class Handle:
    clock: Clock
    replay: Replay
    began: float
    canceled: float | None = None
    reads: list[float] = field(default_factory=list)

    def poll(self) -> int | None:
        if self.canceled is not None:
            return -2 if self.clock.now >= self.canceled + 0.5 else None  # it takes a moment to end
        lasts = len(self.replay.values) if self.replay.seconds is None else self.replay.seconds
        return self.replay.code if self.clock.now >= self.began + lasts else None

    def metrics(self) -> list[Report]:
        self.reads.append(self.clock.now)
        passed = int(self.clock.now - self.began)
        return list(enumerate(self.replay.values[:passed]))

    def metric_names(self) -> Sequence[str]:
        return self.replay.others

    def cancel(self) -> None:
        self.canceled = self.clock.now


class Launcher:
    """Starts trials that play back what ``play`` says for their number and values."""

    def __init__(self, clock: Clock, play: Callable[[int, Mapping[str, Any]], Replay]) -> None:
        self.clock = clock
        self.play = play
        self.handles: dict[int, Handle] = {}
        self.started: list[int] = []
        self.most = 0

    def __call__(self, number: int, values: Mapping[str, Any]) -> Handle:
        self.started.append(number)
        self.handles[number] = Handle(self.clock, self.play(number, values), self.clock.now)
        self.most = max(self.most, sum(handle.poll() is None for handle in self.handles.values()))
        return self.handles[number]


def sweep(goal: str = "maximize", **changes: Any) -> Sweep:
    return Sweep.model_validate(
        {
            "trial": "file:./trial.yml",
            "search_space": {"x": {"type": "choice", "values": list(range(6))}},
            "sampling_algorithm": "grid",
            "objective": {"goal": goal, "primary_metric": "accuracy"},
            "limits": {"max_total_trials": 6, "max_concurrent_trials": 2},
            **changes,
        }
    )


def advance(run: SweepRun, clock: Clock, *, free: int = 8, until: float = math.inf) -> SweepResult | None:
    """Poll every tenth of a second until there is a result, or a time."""
    for _ in range(20_000):
        result = run.poll(free)
        if result is not None or clock.now >= until:
            return result
        clock.now = round(clock.now + 0.1, 3)
    raise AssertionError("the sweep does not end")


def complete(run: SweepRun, clock: Clock) -> SweepResult:
    result = advance(run, clock)
    assert result is not None
    return result


CURVES = [(0.1, 0.3), (0.2, 0.5), (0.4, 0.9, 0.8), (0.2,), (0.3, 0.6), (0.1, 0.2)]


def by_number(number: int, values: Mapping[str, Any]) -> Replay:
    return Replay(CURVES[number])


def test_best_trial_is_found(tmp_path: Path) -> None:
    clock = Clock()
    launcher = Launcher(clock, by_number)
    result = complete(SweepRun(sweep(), tmp_path, launcher, clock=clock), clock)
    assert (result.status, result.message) == ("Completed", "")
    assert result.best is not None
    assert (result.best.number, result.best.values, result.best.metric) == (2, {"x": 2}, 0.9)
    assert [trial.metric for trial in result.trials] == [max(values) for values in CURVES]
    assert {trial.state for trial in result.trials} == {"Completed"}
    assert result.best.reports == ((0, 0.4), (1, 0.9), (2, 0.8))
    assert result.best.seconds == pytest.approx(3, abs=0.2)
    assert (launcher.started, launcher.most) == (list(range(6)), 2)


def test_least_is_best_where_the_goal_says_so(tmp_path: Path) -> None:
    clock = Clock()
    result = complete(SweepRun(sweep("minimize"), tmp_path, Launcher(clock, by_number), clock=clock), clock)
    assert result.best is not None
    assert (result.best.number, result.best.metric) == (0, 0.1)  # of equals the first


def test_free_slots_and_limits_bound_what_runs(tmp_path: Path) -> None:
    clock = Clock()
    launcher = Launcher(clock, by_number)
    run = SweepRun(sweep(limits={"max_total_trials": 4}), tmp_path, launcher, clock=clock)
    assert advance(run, clock, free=0, until=clock.now + 2) is None
    assert launcher.started == []
    result = complete(run, clock)
    assert (len(result.trials), launcher.most) == (4, 4)


def test_grid_ends_where_it_is_exhausted(tmp_path: Path) -> None:
    clock = Clock()
    run = SweepRun(sweep(limits={"max_total_trials": 9}), tmp_path, Launcher(clock, by_number), clock=clock)
    assert len(complete(run, clock).trials) == 6


def test_metrics_are_read_once_a_second(tmp_path: Path) -> None:
    clock = Clock()
    launcher = Launcher(clock, lambda number, values: Replay([0.1] * 10))
    run = SweepRun(sweep(limits={"max_total_trials": 1}), tmp_path, launcher, clock=clock)
    complete(run, clock)
    reads = launcher.handles[0].reads
    assert 9 <= len(reads) <= 11
    assert all(later - earlier >= 0.99 for earlier, later in itertools.pairwise(reads[:-1]))


def test_running_trials_are_shown(tmp_path: Path) -> None:
    clock = Clock()
    run = SweepRun(sweep(), tmp_path, Launcher(clock, by_number), clock=clock)
    assert list(run.trials) == []
    advance(run, clock, until=clock.now + 1.5)
    assert [(trial.number, trial.state, trial.metric) for trial in run.trials] == [
        (0, "Running", 0.1), (1, "Running", 0.2),
    ]  # fmt: skip


def test_hopeless_trials_are_given_up(tmp_path: Path) -> None:
    clock = Clock()
    policy = {"type": "bandit", "slack_amount": 0.2, "delay_evaluation": 2}
    launcher = Launcher(clock, lambda number, values: Replay([number / 10] * 10))
    run = SweepRun(
        sweep(early_termination=policy, limits={"max_total_trials": 6, "max_concurrent_trials": 6}),
        tmp_path, launcher, clock=clock,
    )  # fmt: skip
    result = complete(run, clock)
    assert [trial.state for trial in result.trials] == ["EarlyTerminated"] * 3 + ["Completed"] * 3
    assert result.trials[0].message == "accuracy 0 is worse than the limit 0.3 at report 2, by the policy bandit"
    assert len(result.trials[0].reports) < 5
    assert result.best is not None
    assert result.best.number == 5


def test_failed_trials_measure_no_other(tmp_path: Path) -> None:
    clock = Clock()
    policy = {"type": "bandit", "slack_amount": 0.1}
    launcher = Launcher(clock, lambda number, values: Replay([0.2] * 4) if number else Replay([0.9], code=1))
    run = SweepRun(
        sweep(early_termination=policy, limits={"max_total_trials": 2, "max_concurrent_trials": 1}),
        tmp_path, launcher, clock=clock,
    )  # fmt: skip
    result = complete(run, clock)
    assert [(trial.state, trial.message) for trial in result.trials] == [("Failed", "exit code 1"), ("Completed", "")]
    assert result.best is not None
    assert result.best.number == 1


def test_trial_that_takes_too_long_is_canceled(tmp_path: Path) -> None:
    clock = Clock()
    launcher = Launcher(clock, lambda number, values: Replay([0.1 * number] * (20 if number == 1 else 2)))
    run = SweepRun(sweep(limits={"max_total_trials": 3, "trial_timeout": 4}), tmp_path, launcher, clock=clock)
    result = complete(run, clock)
    assert [trial.state for trial in result.trials] == ["Completed", "Canceled", "Completed"]
    assert result.trials[1].message == "reached the trial_timeout of 4 seconds"
    assert result.status == "Completed"


def test_timeout_of_the_sweep_keeps_what_is_done(tmp_path: Path) -> None:
    clock = Clock()
    launcher = Launcher(clock, by_number)
    limits = {"max_total_trials": 6, "max_concurrent_trials": 1, "timeout": 3}
    result = complete(SweepRun(sweep(limits=limits), tmp_path, launcher, clock=clock), clock)
    assert (result.status, result.message) == ("Completed", "the sweep reached its timeout of 3 seconds")
    assert [trial.state for trial in result.trials] == ["Completed", "Canceled"]
    assert result.best is not None
    assert result.best.number == 0
    limits["timeout"] = 1
    run = SweepRun(sweep(limits=limits), tmp_path / "second", Launcher(clock, by_number), clock=clock)
    result = complete(run, clock)
    assert (result.status, result.message) == ("Failed", "the sweep reached its timeout of 1 seconds")


def test_canceled_sweep_ends_and_can_be_gone_on_with(tmp_path: Path) -> None:
    clock = Clock()
    launcher = Launcher(clock, by_number)
    run = SweepRun(sweep(), tmp_path, launcher, clock=clock)
    advance(run, clock, until=clock.now + 2.5)
    run.cancel()
    result = complete(run, clock)
    assert (result.status, result.message) == ("Canceled", "the sweep was canceled")
    assert [trial.state for trial in result.trials] == ["Completed", "Completed", "Canceled", "Canceled"]
    assert run.poll(8) is result
    run.cancel()
    assert run.poll(8) is result

    again = Launcher(clock, by_number)
    result = complete(SweepRun(sweep(), tmp_path, again, clock=clock), clock)
    assert again.started == [2, 3, 4, 5]
    assert [trial.metric for trial in result.trials] == [max(values) for values in CURVES]
    assert result.best is not None
    assert result.best.number == 2

    third = Launcher(clock, by_number)
    assert SweepRun(sweep(), tmp_path, third, clock=clock).poll(8) == result
    assert third.started == []


def test_trials_of_a_killed_process_are_started_anew(tmp_path: Path) -> None:
    clock = Clock()
    policy = {"type": "bandit", "slack_amount": 0.05}
    random = sweep(
        sampling_algorithm={"type": "random", "seed": 3},
        search_space={"x": {"type": "uniform", "min_value": 0, "max_value": 1}},
        early_termination=policy,
    )

    def play(number: int, values: Mapping[str, Any]) -> Replay:
        return Replay([values["x"]] * 4)

    whole = complete(SweepRun(random, tmp_path / "whole", Launcher(clock, play), clock=clock), clock)
    advance(SweepRun(random, tmp_path / "killed", Launcher(clock, play), clock=clock), clock, until=clock.now + 5)
    launcher = Launcher(clock, play)
    result = complete(SweepRun(random, tmp_path / "killed", launcher, clock=clock), clock)
    assert 0 < len(launcher.started) < 6
    assert [trial.values for trial in result.trials] == [trial.values for trial in whole.trials]
    assert "EarlyTerminated" in {trial.state for trial in result.trials}
    assert result.best is not None
    assert whole.best is not None
    assert result.best.values == whole.best.values


def test_missing_metric_is_explained(tmp_path: Path) -> None:
    clock = Clock()
    names = {0: ("val_accuracy", "loss"), 1: ("loss",)}
    launcher = Launcher(clock, lambda number, values: Replay((), others=names.get(number, ())))
    result = complete(SweepRun(sweep(), tmp_path, launcher, clock=clock), clock)
    message = "no trial logged the primary metric 'accuracy'; they logged loss, val_accuracy"
    assert (result.status, result.best, result.message) == ("Failed", None, message)
    assert result.trials[0].message == "did not log 'accuracy', but loss, val_accuracy"
    assert result.trials[2].message == "did not log 'accuracy', but no metric"
    again = SweepRun(sweep(), tmp_path, Launcher(clock, by_number), clock=clock)
    assert complete(again, clock).message == message


def test_numbers_that_are_none_do_not_count(tmp_path: Path) -> None:
    clock = Clock()
    launcher = Launcher(
        clock, lambda number, values: Replay([math.nan, math.inf, 0.1 * number] if number else [math.nan])
    )
    result = complete(SweepRun(sweep(), tmp_path, launcher, clock=clock), clock)
    assert [trial.metric for trial in result.trials][:3] == [None, 0.1, 0.2]
    assert result.trials[1].reports == ((2, 0.1),)


def test_sweep_without_a_completed_trial_fails(tmp_path: Path) -> None:
    clock = Clock()
    launcher = Launcher(clock, lambda number, values: Replay([0.5], code=3))
    result = complete(SweepRun(sweep(), tmp_path, launcher, clock=clock), clock)
    assert (result.status, result.best) == ("Failed", None)
    assert result.message == "none of the 6 trials completed: trial 0: exit code 3"


def test_trial_that_cannot_be_started_fails(tmp_path: Path) -> None:
    clock = Clock()

    def play(number: int, values: Mapping[str, Any]) -> Replay:
        if number == 2:
            raise PipelineError("2 is above the maximum of x", "use less")
        return Replay(CURVES[number])

    result = complete(SweepRun(sweep(), tmp_path, Launcher(clock, play), clock=clock), clock)
    assert result.status == "Completed"
    assert (result.trials[2].state, result.trials[2].message) == ("Failed", "2 is above the maximum of x")


@pytest.mark.slow
def test_polling_is_quick(tmp_path: Path) -> None:
    """With a hundred trials behind it and ten that run, most looks call a few thousand functions at most."""
    clock = Clock()
    calls = 0

    def count(frame: object, event: str, argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    space = {"x": {"type": "uniform", "min_value": 0, "max_value": 1}}
    policy = {"type": "median_stopping", "delay_evaluation": 3}
    run = SweepRun(
        sweep(
            search_space=space, sampling_algorithm="random", early_termination=policy,
            limits={"max_total_trials": 110, "max_concurrent_trials": 10},
        ),
        tmp_path, Launcher(clock, lambda number, values: Replay([values["x"]] * 10)), clock=clock,
    )  # fmt: skip
    looks = []
    result = None
    while result is None:
        calls = 0
        sys.setprofile(count)
        result = run.poll(8)
        sys.setprofile(None)
        looks.append(calls)
        clock.now = round(clock.now + 0.1, 3)
    assert len(result.trials) == 110
    assert sorted(looks)[len(looks) // 2] < 10_000


@pytest.fixture
def trials() -> list[Trial]:
    values: list[dict[str, Any]] = [
        {"lr": 10.0**-i, "depth": i, "state": name, "units": [i, i]}
        for i, name in enumerate(["relu", 'gelu, "x"', "relu", "silu"])
    ]
    return [
        Trial(0, values[0], "Completed", 0.5, ((0, 0.4), (1, 0.5)), 1.25),
        Trial(1, values[1], "EarlyTerminated", 0.2, ((0, 0.2),), 0.5, "accuracy 0.2 is worse"),
        Trial(2, values[2], "Failed", None, (), 0.1, "exit code 1"),
        Trial(3, values[3], "Completed", 0.75, ((0, 0.75),), 2.0),
    ]


@pytest.mark.slow
def test_leaderboard(tmp_path: Path, trials: list[Trial]) -> None:
    write_leaderboard(tmp_path / "board", trials, "accuracy", "maximize")
    assert sorted(path.name for path in (tmp_path / "board").iterdir()) == ["trials.csv", "trials.json", "trials.svg"]
    rows = list(csv.DictReader((tmp_path / "board" / "trials.csv").read_text().splitlines()))
    assert rows[1] == {
        "trial": "1", "state": "EarlyTerminated", "accuracy": "0.2", "reports": "1", "seconds": "0.5",
        "search_space.lr": "0.1", "search_space.depth": "1", "search_space.state": 'gelu, "x"',
        "search_space.units": "[1, 1]", "message": "accuracy 0.2 is worse",
    }  # fmt: skip
    assert rows[2]["accuracy"] == ""
    content = json.loads((tmp_path / "board" / "trials.json").read_text())
    assert content["trials"][3] == {
        "number": 3, "values": {"lr": 0.001, "depth": 3, "state": "silu", "units": [3, 3]}, "state": "Completed",
        "metric": 0.75, "reports": 1, "seconds": 2.0, "message": "",
    }  # fmt: skip
    picture = (tmp_path / "board" / "trials.svg").read_text(encoding="utf-8")
    assert picture.count('id="axes_') == 5  # the objective, and each parameter
    assert ">gelu, &quot;x&quot;<" in picture


@pytest.mark.parametrize("scored", [False, True])
def test_leaderboard_of_little(tmp_path: Path, scored: bool) -> None:
    write_leaderboard(tmp_path, [Trial(0, {"x": True}, "Completed", 0.5 if scored else None)], "loss", "minimize")
    write_leaderboard(tmp_path, [], "loss", "minimize")
    assert (tmp_path / "trials.csv").read_text() == "trial,state,loss,reports,seconds,message\n"


TRAIN = """
import sys, time
from vision_mlops.tracking import mlflow_runs
run_id, x = sys.argv[1], float(sys.argv[2])
for step in range(4):
    mlflow_runs.log_metrics(run_id, {"accuracy": x * (step + 1) / 4, "loss": 1 - x}, step=step)
    time.sleep(1.2)
"""


class Process:
    """A trial as a real process that logs to a real store."""

    def __init__(self, script: Path, run_id: str, x: float) -> None:
        self.run_id = run_id
        self.process = subprocess.Popen([sys.executable, str(script), run_id, str(x)], env=dict(os.environ))

    def poll(self) -> int | None:
        return self.process.poll()

    def metrics(self) -> list[Report]:
        return mlflow_metric_history(self.run_id, "accuracy")

    def metric_names(self) -> list[str]:
        return mlflow_metric_names(self.run_id)

    def cancel(self) -> None:
        self.process.terminate()


class Processes:
    def __init__(self, script: Path) -> None:
        self.script = script
        self.started: list[Process] = []

    def __call__(self, number: int, values: Mapping[str, Any]) -> Process:
        run_id = mlflow_runs.start_run("sweep", f"trial {number}")
        self.started.append(Process(self.script, run_id, values["x"]))
        return self.started[-1]


@pytest.mark.slow
def test_sweep_of_processes_that_log_to_mlflow(store: Path, tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(TRAIN)
    launcher = Processes(script)
    run = SweepRun(
        sweep(
            search_space={"x": {"type": "choice", "values": [0.9, 0.1, 0.5]}},
            early_termination={"type": "bandit", "slack_amount": 0.1, "delay_evaluation": 1},
            limits={"max_total_trials": 3, "max_concurrent_trials": 2},
        ),
        tmp_path / "sweep", launcher,
    )  # fmt: skip
    limit = time.monotonic() + 120
    while (result := run.poll(2)) is None:
        assert time.monotonic() < limit
        time.sleep(0.05)
    assert result.status == "Completed"
    assert result.best is not None
    assert (result.best.values, result.best.metric) == ({"x": 0.9}, 0.9)
    assert result.best.reports == ((0, 0.225), (1, 0.45), (2, 0.675), (3, 0.9))
    assert [trial.state for trial in result.trials] == ["Completed", "EarlyTerminated", "EarlyTerminated"]
    assert mlflow_metric_names(launcher.started[0].run_id) == ["accuracy", "loss"]
    assert mlflow_metric_history(launcher.started[0].run_id, "nothing") == []
    assert all(item.process.poll() is not None for item in launcher.started)
