"""Judges a step: continue, wait or fail, with reasons, from what was observed of candidate and champion.

It depends on its arguments alone. A step fails early only if something is certainly above its limit, and passes only after
enough requests; what is above a limit, but not certainly, is observed longer.

The latency that counts first is the work of a version itself. The time that requests wait for each other and for the cores
depends on how busy the machine is: it fails a step only if it has been certain for long, and delays nothing if it is not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Any

from vision_mlops.core.text import counted
from vision_mlops.endpoints.contract import NOTHING_COUNTED, Counts
from vision_mlops.rollout.rollout_settings import RolloutLimits
from vision_mlops.rollout.statistics import LatencySample, exceeds, probably_slower, surely_slower

PAIRS = 50
"""Images that both must have scored, and by which their latencies are compared, before a step can pass."""
_LONGER = 5
"""After this many times the needed number of requests, what was observed decides, certain or not."""
_LONGER_LATENCY = 20
"""The same for latencies, which are noisy."""
_DOUBT = 0.2
"""Highest acceptable probability that a latency that was measured within its limit is really above it."""
_FEWEST = 20
"""With fewer measurements than this, a latency is not judged."""
_QUANTILES = {"median": 0.5, "p95": 0.95}


class StepVerdict(StrEnum):
    """The verdict on a step."""

    CONTINUE = "continue"
    WAIT = "wait"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Latency:
    """Latencies of both deployments, measured in one way.

    ``waits``: they include the time that requests wait for each other and for a core; a step may pass without them.
    ``halves`` are the earlier and the later measurements: what is certain must be certain for each.
    """

    what: str
    candidate: LatencySample
    champion: LatencySample
    waits: bool = False
    halves: tuple[tuple[LatencySample, LatencySample], ...] = ()


@dataclass(frozen=True, slots=True)
class Observation:
    """What was observed in a step so far.

    ``pairs`` are probes that both have scored. In ``compared`` and ``disagreed``, an image that was sent repeatedly counts
    once. ``problem`` says why the candidate cannot serve, or is empty. ``note`` says why the last incomparable pair could
    not be compared, or is empty.
    """

    seconds: float
    candidate: Counts = NOTHING_COUNTED
    champion: Counts = NOTHING_COUNTED
    pairs: int = 0
    compared: int = 0
    disagreed: int = 0
    latencies: tuple[Latency, ...] = ()
    problem: str = ""
    note: str = ""

    @property
    def disagreement(self) -> float:
        """Share of the compared images with another label; 0 without any."""
        return self.disagreed / self.compared if self.compared else 0.0

    def figures(self) -> dict[str, Any]:
        """Return all numbers, ready for JSON."""
        return {
            "seconds": round(self.seconds, 1),
            "candidate": {"requests": self.candidate.requests, "errors": self.candidate.errors},
            "champion": {"requests": self.champion.requests, "errors": self.champion.errors},
            "pairs": self.pairs,
            "compared": self.compared,
            "disagreed": self.disagreed,
            "latency_ms": {
                item.what: {
                    who: {name: _rounded(sample, share) for name, share in _QUANTILES.items()} | {"of": sample.size}
                    for who, sample in (("candidate", item.candidate), ("champion", item.champion))
                }
                for item in self.latencies
            },
        }


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict and its reasons."""

    verdict: StepVerdict
    reasons: tuple[str, ...]


_Finding = tuple[StepVerdict, str]
"""The verdict on one limit (it is kept, it is certainly exceeded, or neither is certain yet), with the reason."""


def judge(seen: Observation, limits: RolloutLimits) -> Judgement:
    """Judge a step.

    Args:
        seen: What was observed since the step began.
        limits: Limits that the candidate must keep.
    """
    if seen.problem:
        return Judgement(StepVerdict.FAIL, (seen.problem,))
    findings = [_errors(seen, limits), _disagreement(seen, limits), *_latencies(seen, limits)]
    failed = tuple(reason for verdict, reason in findings if verdict is StepVerdict.FAIL)
    if failed:
        return Judgement(StepVerdict.FAIL, failed)
    pending = tuple(reason for verdict, reason in findings if verdict is StepVerdict.WAIT)
    if seen.note and seen.pairs < _needed(limits):
        pending = (*pending, seen.note)
    if seen.seconds >= limits.step_timeout and pending:
        late = f"the step was not passed within {limits.step_timeout:g} s"
        return Judgement(StepVerdict.FAIL, (late, *pending))
    if not pending and seen.seconds < limits.min_seconds:
        return Judgement(StepVerdict.WAIT, (f"{seen.seconds:.0f} of {limits.min_seconds:g} s",))
    if pending:
        return Judgement(StepVerdict.WAIT, pending)
    return Judgement(StepVerdict.CONTINUE, tuple(reason for _, reason in findings))


def _errors(seen: Observation, limits: RolloutLimits) -> _Finding:
    mine, other = seen.candidate, seen.champion
    allowed = max(limits.max_error_rate, other.error_rate)  # an outage of both is not the fault of the candidate
    told = f"{_percent(mine.error_rate)} of {counted(mine.requests, 'request')} failed"
    return _decided(
        mine.error_rate > allowed,
        lambda: exceeds(mine.errors, mine.requests, allowed),
        mine.requests,
        limits.min_requests,
        good=told,
        bad=f"error rate: {told}, {_percent(allowed)} are allowed (champion: {_percent(other.error_rate)}"
        f" of {other.requests})",
        what="requests",
    )


def _disagreement(seen: Observation, limits: RolloutLimits) -> _Finding:
    told = f"{_percent(seen.disagreement)} of {counted(seen.compared, 'image')} got a different label than the champion gave"
    return _decided(
        seen.disagreement > limits.max_disagreement,
        lambda: exceeds(seen.disagreed, seen.compared, limits.max_disagreement),
        seen.pairs,
        _needed(limits),
        good=told,
        bad=f"disagreement: {told}, {_percent(limits.max_disagreement)} are allowed",
        what="images scored by both",
    )


def _latencies(seen: Observation, limits: RolloutLimits) -> Iterator[_Finding]:
    ratio, allowance = limits.max_latency_ratio, limits.latency_allowance_ms
    for item in seen.latencies:
        size = min(item.candidate.size, item.champion.size)
        if item.waits and size < max(_FEWEST, _needed(limits)):
            continue
        for name, share in _QUANTILES.items():
            mine, other = item.candidate.quantile(share), item.champion.quantile(share)
            told = f"{item.what}, {name}: {mine:.1f} ms against {other:.1f} ms of the champion"
            bad = f"latency: {told}, {ratio:g} times as much plus {allowance:g} ms are allowed"
            above = bool(mine > ratio * other + allowance)
            known = partial(_surely_slower, item, share, limits)
            if item.waits:
                yield _waiting(above and known(), size, limits, good=told, bad=bad)
                continue
            longer = _LONGER_LATENCY if above else math.inf
            above = above or _in_doubt(item, share, limits)
            yield _decided(
                above, known, size, _needed(limits), good=told, bad=bad, what="measured pairs", longer=longer
            )


def _waiting(slower: bool, size: int, limits: RolloutLimits, *, good: str, bad: str) -> _Finding:
    if not slower:
        return StepVerdict.CONTINUE, good
    if size >= _LONGER * _needed(limits):
        return StepVerdict.FAIL, bad
    return StepVerdict.WAIT, f"inconclusive, because requests wait for each other; observing longer: {bad}"


def _in_doubt(item: Latency, share: float, limits: RolloutLimits) -> bool:
    """Return whether a latency may be within its limit by chance: it is checked often, and the first good check counts."""
    size = min(item.candidate.size, item.champion.size)
    if not _FEWEST <= size < _LONGER_LATENCY * _needed(limits):
        return False
    ratio, allowance = limits.max_latency_ratio, limits.latency_allowance_ms
    return probably_slower(item.candidate, item.champion, share, ratio, allowance) > _DOUBT


def _surely_slower(item: Latency, share: float, limits: RolloutLimits) -> bool:
    ratio, allowance = limits.max_latency_ratio, limits.latency_allowance_ms
    return all(
        min(mine.size, other.size) >= _FEWEST and surely_slower(mine, other, share, ratio, allowance)
        for mine, other in item.halves or ((item.candidate, item.champion),)
    )


def _decided(
    above: bool,
    known: Callable[[], bool],
    size: int,
    needed: int,
    *,
    good: str,
    bad: str,
    what: str,
    longer: float = _LONGER,
) -> _Finding:
    if above and (size >= longer * needed or known()):
        return StepVerdict.FAIL, bad
    if size < needed:
        return StepVerdict.WAIT, f"{size} of {needed} {what}" + (f"; {bad}" if above else "")
    return (StepVerdict.WAIT, f"not sure yet: {bad}") if above else (StepVerdict.CONTINUE, good)


def _needed(limits: RolloutLimits) -> int:
    return min(PAIRS, limits.min_requests)


def _percent(share: float) -> str:
    return f"{100 * share:.3g}%"


def _rounded(sample: LatencySample, share: float) -> float | None:
    return round(sample.quantile(share), 2) if sample.size else None
