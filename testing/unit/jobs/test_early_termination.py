from __future__ import annotations

from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from vision_mlops.jobs.definitions.models.sweep import EarlyTermination
from vision_mlops.jobs.local.sweep.early_termination import Curve, stops


def policy(**options: Any) -> EarlyTermination:
    return TypeAdapter[EarlyTermination](EarlyTermination).validate_python(options)


def curves(*values: tuple[float, ...]) -> list[Curve]:
    return [Curve(number, item) for number, item in enumerate(values)]


def stopped(
    rule: EarlyTermination | None, goal: Literal["maximize", "minimize"], *values: tuple[float, ...]
) -> list[int]:
    return sorted(stops(rule, goal, "accuracy", curves(*values)))


def test_no_policy_stops_nothing() -> None:
    assert stopped(None, "maximize", (0.9,), (0.0,)) == []


def test_bandit_with_a_factor_as_documented() -> None:
    """0.8 being the best and the factor 0.2, what is below 0.8 / 1.2 = 0.667 is given up."""
    rule = policy(type="bandit", slack_factor=0.2, evaluation_interval=10)
    history = [0.0] * 9
    values = [(*history, last) for last in (0.8, 0.66, 0.67)]
    assert stopped(rule, "maximize", *values) == [1]
    assert stopped(rule, "maximize", *[item[:9] for item in values]) == []
    found = stops(rule, "maximize", "accuracy", curves(*values))
    assert found == {1: "accuracy 0.66 is worse than the limit 0.666667 at report 10, by the policy bandit"}


@pytest.mark.parametrize(
    ("goal", "slack", "values", "expected"),
    [
        ("maximize", {"slack_amount": 0.1}, [(0.8,), (0.69,), (0.71,)], [1]),
        ("minimize", {"slack_amount": 0.1}, [(0.2,), (0.31,), (0.29,)], [1]),
        ("minimize", {"slack_factor": 0.2}, [(1.0,), (1.21,), (1.19,)], [1]),
        # Below zero, dividing would put the limit above the best.
        ("maximize", {"slack_factor": 0.5}, [(-1.0,), (-1.6,), (-1.4,)], [1]),
        ("minimize", {"slack_factor": 0.5}, [(-1.5,), (-0.9,), (-1.1,)], [1]),
    ],
)
def test_bandit_in_both_directions(
    goal: Literal["maximize", "minimize"], slack: dict[str, float], values: list[tuple[float, ...]], expected: list[int]
) -> None:
    assert stopped(policy(type="bandit", **slack), goal, *values) == expected


def test_bandit_takes_the_best_report_so_far() -> None:
    rule = policy(type="bandit", slack_amount=0.1, delay_evaluation=2)
    assert stopped(rule, "maximize", (0.8, 0.8), (0.79, 0.1)) == []


def test_median_of_the_running_averages() -> None:
    """Averages are 0.6, 0.4 and 0.5: below their median lies the best of trial 1 only."""
    rule = policy(type="median_stopping", delay_evaluation=2)
    values = [(0.5, 0.7), (0.35, 0.45), (0.5, 0.5)]
    assert stopped(rule, "maximize", *values) == [1]
    assert stopped(rule, "minimize", *[tuple(-value for value in item) for item in values]) == [1]
    assert stopped(rule, "maximize", (0.5, 0.7), (0.25, 0.55), (0.5, 0.5)) == []


def test_truncation_takes_the_worst_share() -> None:
    rule = policy(type="truncation_selection", truncation_percentage=40)
    values = [(0.1,), (0.2,), (0.3,), (0.4,), (0.5,)]
    assert stopped(rule, "maximize", *values) == [0, 1]
    assert stopped(rule, "minimize", *values) == [3, 4]
    assert stopped(rule, "maximize", *values[:2]) == []  # 40 % of two is less than one
    assert stopped(rule, "maximize", (0.1,), (0.1,), (0.1,), (0.4,), (0.5,)) == []


def test_truncation_counts_trials_that_have_ended() -> None:
    trials = [Curve(0, (0.1,), running=False), Curve(1, (0.2,)), Curve(2, (0.3,))]
    half = {"type": "truncation_selection", "truncation_percentage": 50}
    assert sorted(stops(policy(**half), "maximize", "a", trials)) == []


@pytest.mark.parametrize(
    ("interval", "delay", "reports", "judged", "stopped_at"),
    [
        (1, 0, 1, 0, 1),
        (2, 0, 1, 0, None),
        (2, 0, 2, 0, 2),
        (2, 3, 3, 0, None),
        (2, 3, 4, 0, 4),
        (1, 5, 4, 0, None),
        (1, 5, 7, 0, 5),
        (1, 5, 7, 6, 7),
        (1, 5, 7, 7, None),
    ],
)
def test_intervals_are_reports(interval: int, delay: int, reports: int, judged: int, stopped_at: int | None) -> None:
    rule = policy(type="bandit", slack_amount=0.1, evaluation_interval=interval, delay_evaluation=delay)
    trials = [Curve(0, (0.9,) * reports), Curve(1, (0.1,) * reports, judged=judged)]
    found = stops(rule, "maximize", "accuracy", trials)
    assert list(found) == ([] if stopped_at is None else [1])
    assert stopped_at is None or f"at report {stopped_at}," in found[1]


def test_trials_are_compared_up_to_the_interval() -> None:
    every_other = policy(type="bandit", slack_amount=0.1, evaluation_interval=2)
    # At report 2 it was level; what the other reported later does not count.
    assert stopped(every_other, "maximize", (0.1, 0.2, 0.9), (0.1, 0.2)) == []


@pytest.mark.parametrize(
    "options",
    [
        {"type": "bandit", "slack_amount": 0.1},
        {"type": "median_stopping"},
        {"type": "truncation_selection", "truncation_percentage": 50},
    ],
)
def test_trial_that_is_ahead_is_compared_too(options: dict[str, Any]) -> None:
    rule = policy(**options, delay_evaluation=2)
    assert stopped(rule, "maximize", (0.9,), (0.1, 0.2), (0.8,)) == [1]


def test_ended_trials_are_not_stopped() -> None:
    rule = policy(type="bandit", slack_amount=0.1)
    assert stops(rule, "maximize", "a", [Curve(0, (0.9,)), Curve(1, (0.1,), running=False)]) == {}


NUMBERS = st.floats(-1e6, 1e6)
POLICIES = st.one_of(
    st.builds(
        lambda factor, every, delay: policy(
            type="bandit", slack_factor=factor, evaluation_interval=every, delay_evaluation=delay
        ),
        st.floats(0.001, 10), st.integers(1, 4), st.integers(0, 4),
    ),
    st.builds(lambda amount: policy(type="bandit", slack_amount=amount), st.floats(1e-6, 10)),
    st.builds(
        lambda every, delay: policy(type="median_stopping", evaluation_interval=every, delay_evaluation=delay),
        st.integers(1, 4), st.integers(0, 4),
    ),
    st.builds(
        lambda percent: policy(type="truncation_selection", truncation_percentage=percent),
        st.integers(1, 99),
    ),
)  # fmt: skip
CURVES = st.lists(
    st.tuples(st.lists(NUMBERS, max_size=6), st.booleans(), st.integers(0, 3)), min_size=1, max_size=8
).map(
    lambda items: [
        Curve(number, tuple(values), running, judged) for number, (values, running, judged) in enumerate(items)
    ]
)


@given(rule=POLICIES, goal=st.sampled_from(["maximize", "minimize"]), trials=CURVES)
def test_best_trial_is_never_stopped(
    rule: EarlyTermination, goal: Literal["maximize", "minimize"], trials: list[Curve]
) -> None:
    choose = max if goal == "maximize" else min
    found = stops(rule, goal, "loss", trials)
    assert set(found) <= {trial.number for trial in trials if trial.running and len(trial.values) > trial.judged}
    reported = [trial for trial in trials if trial.values]
    if reported:
        best = choose(choose(trial.values) for trial in reported)
        assert not any(choose(trial.values) == best for trial in reported if trial.number in found)


@given(rule=POLICIES, value=NUMBERS, count=st.integers(1, 6), reports=st.integers(1, 6))
def test_equal_trials_are_not_stopped(rule: EarlyTermination, value: float, count: int, reports: int) -> None:
    assert stops(rule, "maximize", "loss", curves(*[(value,) * reports] * count)) == {}
