"""The statistics that a judge of few requests needs: what a count or a sample already shows, and what it does not yet."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vision_mlops.endpoints.contract import LATENCY_BOUNDS_MS

SIGNIFICANCE = 0.005
"""Probability of the same or worse by chance, below which something counts as certain. Small, as it is checked often."""
_RESAMPLES = 200
FEWEST_BLOCKS = 8
"""With fewer intervals than this, nothing is certain."""
_Array = npt.NDArray[np.float64]


def chance(hits: int, trials: int, rate: float) -> float:
    """Return the probability of at least this many hits in this many trials at a rate: the tail of a binomial."""
    if hits <= 0 or rate >= 1:
        return 1.0
    if rate <= 0 or hits > trials:
        return 0.0
    below = math.fsum(_probability(count, trials, rate) for count in range(hits))
    return min(1.0, max(0.0, 1.0 - below))


def exceeds(hits: int, trials: int, rate: float) -> bool:
    """Return whether the true rate is certainly above ``rate``: the lower bound of its exact interval is."""
    return hits > trials * rate and chance(hits, trials, rate) < SIGNIFICANCE


def _probability(count: int, trials: int, rate: float) -> float:
    ways = math.lgamma(trials + 1) - math.lgamma(count + 1) - math.lgamma(trials - count + 1)
    return math.exp(ways + count * math.log(rate) + (trials - count) * math.log1p(-rate))


@dataclass(frozen=True, slots=True)
class LatencySample:
    """Durations in milliseconds, ascending, and how often each occurred; ``blocks``: the same for each interval of time.

    Requests at one moment wait together, so the number of intervals, not of requests, determines what is certain.
    """

    values: tuple[float, ...] = ()
    weights: tuple[int, ...] = ()
    blocks: tuple[tuple[int, ...], ...] = ()

    @classmethod
    def of(cls, durations: Sequence[float]) -> LatencySample:
        """Return a sample of single measurements."""
        return cls(tuple(sorted(durations)), (1,) * len(durations))

    @classmethod
    def of_buckets(cls, blocks: Sequence[Sequence[int]]) -> LatencySample:
        """Return a sample of intervals with numbers by bucket of :data:`LATENCY_BOUNDS_MS`, each at its upper bound."""
        bounds = (*LATENCY_BOUNDS_MS, LATENCY_BOUNDS_MS[-1] * 1.1)
        sums = tuple(map(sum, zip(*blocks, strict=True))) or (0,) * len(bounds)
        return cls(bounds, sums, tuple(map(tuple, blocks)))

    @property
    def size(self) -> int:
        """Number of measurements."""
        return sum(self.weights)

    def quantile(self, share: float) -> float:
        """Return the smallest duration that at least this share of the measurements does not exceed; NaN of an empty one."""
        if not self.size:
            return math.nan
        return float(_quantiles(self, np.array([self.weights], np.float64), share)[0])

    def resampled(self, share: float, generator: np.random.Generator) -> _Array:
        """Return the quantile of samples drawn from this one (_RESAMPLES,)."""
        weights = np.array(self.weights, np.float64)
        if self.blocks:
            count = len(self.blocks)
            drawn = generator.multinomial(count, [1 / count] * count, _RESAMPLES) @ np.array(self.blocks)
            drawn[drawn.sum(axis=1) == 0] = weights  # only intervals without requests were drawn
        else:
            drawn = generator.multinomial(self.size, weights / weights.sum(), _RESAMPLES)
        return _quantiles(self, drawn.astype(np.float64), share)


def _quantiles(sample: LatencySample, weights: _Array, share: float) -> _Array:
    total = weights.cumsum(axis=1)
    # A little less than the share, so that 95 of 100 are 95 percent also in floating point.
    places = (total < share * total[:, -1:] - 1e-9).sum(axis=1)
    values: _Array = np.asarray(sample.values, np.float64)[places]
    return values


def probably_slower(slow: LatencySample, fast: LatencySample, share: float, ratio: float, allowance: float) -> float:
    """Return the probability that a quantile of ``slow`` is above ``ratio`` times that of ``fast`` plus the allowance.

    It is determined by bootstrap; if the samples have intervals, the same ones are drawn of both.
    """
    # The same observations get the same verdict, and the same intervals are drawn of both.
    mine, other = np.random.default_rng(0), np.random.default_rng(0 if slow.blocks else 1)
    excess = slow.resampled(share, mine) - ratio * fast.resampled(share, other) - allowance
    return float((excess > 0).mean())


def surely_slower(slow: LatencySample, fast: LatencySample, share: float, ratio: float, allowance: float) -> bool:
    """Return whether a quantile of ``slow`` is certainly above that."""
    if slow.blocks and len(slow.blocks) < FEWEST_BLOCKS:
        return False
    return probably_slower(slow, fast, share, ratio, allowance) > 1 - 2 * SIGNIFICANCE
