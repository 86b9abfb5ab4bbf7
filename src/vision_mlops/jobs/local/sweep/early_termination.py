"""Early termination as in Azure ML's sweeps: which running trials to terminate, given what all trials have reported.

Each report of the primary metric is an interval. A policy evaluates a trial at the multiples of ``evaluation_interval``
from ``delay_evaluation`` on, and compares it with all trials, including itself, by what each had reported up to there.
Trials that have reported less take part with what they have; otherwise one that is slightly ahead of the others would
always be compared with itself. The best trial is never terminated. Optuna's pruners are not suitable: they only compare
reports of the same step, and have neither a slack nor a share of the trials to truncate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Literal

from vision_mlops.jobs.definitions.models.sweep import Bandit, EarlyTermination, MedianStopping, Truncation

Goal = Literal["maximize", "minimize"]


@dataclass(frozen=True, slots=True)
class Curve:
    """What a trial has reported."""

    number: int
    values: tuple[float, ...]  # of the primary metric, finite, in the order of the reports
    running: bool = True
    judged: int = 0  # number of reports that a policy has already evaluated


def stops(policy: EarlyTermination | None, goal: Goal, metric: str, curves: Sequence[Curve]) -> dict[int, str]:
    """Return the numbers of the running trials to terminate, with the reason for each.

    Args:
        policy: None terminates nothing.
        goal: Whether more or less of the metric is better.
        metric: Its name, for the reason.
        curves: All trials, including those that have ended. Intervals up to ``judged`` are not evaluated again.
    """
    found: dict[int, str] = {}
    if policy is None:
        return found
    sign = 1.0 if goal == "maximize" else -1.0
    peers = [curve for curve in curves if curve.values]
    top = max((_best(curve, sign) for curve in peers), default=0.0)
    for curve in peers:
        if _best(curve, sign) == top:
            continue  # even if it was behind at an interval that is only evaluated now
        for interval in _due(policy, curve):
            reason = _reason(policy, sign, curve, interval, peers)
            if reason:
                found[curve.number] = f"{metric} {reason} at report {interval}, by the policy {policy.type}"
                break
    return found


def _due(policy: EarlyTermination, curve: Curve) -> Sequence[int]:
    """Return the intervals at which the policy has still to evaluate a trial."""
    every = policy.evaluation_interval
    first = max(curve.judged + 1, policy.delay_evaluation, 1)
    return range(-(-first // every) * every, len(curve.values) + 1, every) if curve.running else ()


def _reason(policy: EarlyTermination, sign: float, curve: Curve, interval: int, peers: Sequence[Curve]) -> str | None:
    """Say why a trial is terminated at an interval, or None. ``sign`` turns less-is-better into more-is-better."""
    own = _best(curve, sign, interval)
    if isinstance(policy, Bandit):
        limit = _bandit_limit(policy, max(_best(peer, sign, interval) for peer in peers))
        return f"{sign * own:.6g} is worse than the limit {sign * limit:.6g}" if own < limit else None
    if isinstance(policy, MedianStopping):
        middle = median(_average(peer, sign, interval) for peer in peers)
        return f"{sign * own:.6g} is worse than the median {sign * middle:.6g}" if own < middle else None
    return _truncated(policy, sign, curve, interval, peers)


def _bandit_limit(policy: Bandit, best: float) -> float:
    if policy.slack_amount is not None:
        return best - policy.slack_amount
    # Azure ML documents best / (1 + factor). Below zero that would be above the best, so the slack is reversed.
    ratio = 1 + float(policy.slack_factor or 0)
    return best / ratio if best >= 0 else best * ratio


def _truncated(policy: Truncation, sign: float, curve: Curve, interval: int, peers: Sequence[Curve]) -> str | None:
    """Say whether a trial is among the worst share. Equals of a trial outside of the share are outside, too."""
    own = _best(curve, sign, interval)
    cut = len(peers) * policy.truncation_percentage // 100
    not_better = sum(_best(peer, sign, interval) <= own for peer in peers)
    if not_better > cut:
        return None
    return f"{sign * own:.6g} is among the worst {cut} of {len(peers)} trials"


def _best(curve: Curve, sign: float, interval: int | None = None) -> float:
    """Return a trial's best report up to an interval, or of all, where more is better."""
    return max(sign * value for value in curve.values[:interval])


def _average(curve: Curve, sign: float, interval: int) -> float:
    """Return the mean of a trial's reports up to an interval. Rounding must not lift it above all of them."""
    return min(fmean(sign * value for value in curve.values[:interval]), _best(curve, sign, interval))
