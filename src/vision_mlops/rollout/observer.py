"""What is observed of a step: the pairs of the probes, and what the target itself has counted in the meantime.

A probe is a request like any other, so a target that counts has counted it as well, and the two numbers are not added. Of
requests and errors, the larger number counts, as a target need not count what it cannot pass on; the latency of the live
traffic comes from the target alone, and only copies and pairs compare labels. If a target does not count, there are only
the pairs.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from vision_mlops.endpoints.contract import NOTHING_COUNTED, Counts
from vision_mlops.rollout.judge import Latency, Observation
from vision_mlops.rollout.probes import Pairs
from vision_mlops.rollout.rollout_settings import RolloutStep
from vision_mlops.rollout.statistics import LatencySample

Readings = Mapping[str, Counts] | None
_MOST_BLOCKS = 240  # even


class Observer:
    """Adds up one step.

    Args:
        step: The step.
        candidate: Name of the deployment.
        champion: Name of the deployment.
        first: Counts of the target at the beginning; None if it does not count.
        began: Monotonic time at which the step began.
    """

    def __init__(self, step: RolloutStep, candidate: str, champion: str, first: Readings, began: float) -> None:
        self.began = began
        self._names = (candidate, champion)
        self._last = first
        self._sums = dict.fromkeys(self._names, NOTHING_COUNTED)
        self._blocks: dict[str, list[tuple[int, ...]]] = {name: [] for name in self._names}
        self._share = step.share

    def see(self, counts: Readings, pairs: Pairs, problem: str = "") -> Observation:
        """Return what was observed so far.

        Args:
            counts: Current counts of the target.
            pairs: Current pairs of the prober.
            problem: Why the candidate cannot serve.
        """
        seconds = time.monotonic() - self.began
        compared, disagreed = len(pairs.seen), sum(pairs.seen.values())
        latencies = pairs.latencies(self._share)
        if counts is not None and self._last is not None:
            for name in self._names:
                gained = _since(counts.get(name), self._last.get(name))
                self._sums[name] = self._sums[name] + gained
                self._blocks[name] = _merged([*self._blocks[name], gained.latencies])
            self._last = counts
            if 0 < self._share <= 50:
                latencies = (*latencies, self._live_traffic())
        mine, other = (self._sums[name] for name in self._names)
        return Observation(
            seconds, _larger(mine, pairs.candidate), _larger(other, pairs.champion), pairs.scored,
            compared + mine.compared, disagreed + mine.disagreed, latencies, problem, pairs.note,
        )  # fmt: skip

    def _live_traffic(self) -> Latency:
        new, old = (self._blocks[name] for name in self._names)
        middle = len(new) // 2
        whole, *halves = (
            (LatencySample.of_buckets(new[part]), LatencySample.of_buckets(old[part]))
            for part in (slice(None), slice(middle), slice(middle, None))
        )
        return Latency("live traffic", *whole, waits=True, halves=tuple(halves))


def _since(now: Counts | None, before: Counts | None) -> Counts:
    """Return what was counted between two readings; if the later one is smaller, counting has started again."""
    now, before = now or NOTHING_COUNTED, before or NOTHING_COUNTED
    gained = now - before
    anew = min(gained.requests, gained.errors, gained.compared, gained.disagreed, *gained.latencies) < 0
    return now if anew else gained


def _merged(blocks: list[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """Merge pairs of intervals into one, once there are very many."""
    if len(blocks) < _MOST_BLOCKS:
        return blocks
    pairs = zip(blocks[::2], blocks[1::2], strict=True)
    return [tuple(one + other for one, other in zip(*pair, strict=True)) for pair in pairs]


def _larger(counted: Counts, probed: Counts) -> Counts:
    return Counts(max(counted.requests, probed.requests), max(counted.errors, probed.errors))
