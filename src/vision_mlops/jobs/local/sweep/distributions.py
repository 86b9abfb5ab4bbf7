"""Maps positions between 0 and 1, drawn evenly or by a search, to values of the distributions of a search space."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Any

from vision_mlops.core.errors import PipelineError
from vision_mlops.jobs.definitions.models.sweep import (
    Choice,
    Distributions,
    Normal,
    QNormal,
    QUniform,
    RandInt,
    Uniform,
)

_TAIL = 1e-12  # normal distributions are cut at seven standard deviations, where positions would be infinite
_LARGEST_EXPONENT = 700.0  # exp(709.8) is the largest number there is


def value_at(space: Distributions, position: float, base: float = math.e) -> Any:
    """Return the value at a position from 0 to 1 of a distribution: evenly drawn positions give values that follow it.

    The bounds of ``loguniform`` are exponents, and for ``lognormal`` the exponent is normally distributed. Values of the
    q-distributions are multiples of q; if there are bounds and a multiple between them, the values stay within the bounds.
    """
    if isinstance(space, Choice):
        return space.values[min(int(position * len(space.values)), len(space.values) - 1)]
    if isinstance(space, RandInt):
        return min(int(position * space.upper), space.upper - 1)
    low, high = -math.inf, math.inf
    if isinstance(space, Normal | QNormal):
        number = NormalDist(space.mu, space.sigma).inv_cdf(min(max(position, _TAIL), 1 - _TAIL))
    else:
        low, high = float(space.min_value), float(space.max_value)
        number = low + position * (high - low)
    if "log" in space.type:
        low, number, high = (_power(base, exponent) for exponent in (low, number, high))
    if isinstance(space, QUniform | QNormal):
        return _rounded(number, space.q, low, high)
    return min(max(number, low), high)


def _power(base: float, exponent: float) -> float:
    return math.exp(exponent) if base == math.e else base**exponent


def _rounded(number: float, q: float, low: float, high: float) -> float:
    """Return the nearest multiple of q, within the bounds if one is; it is a whole number if q is one."""
    steps = round(number / q)
    least = math.ceil(low / q) if math.isfinite(low) else steps
    most = math.floor(high / q) if math.isfinite(high) else steps
    if least <= most:
        steps = min(max(steps, least), most)
    # 3 * 0.1 is 0.30000000000000004, but 0.3 is meant.
    return steps * q if isinstance(q, int) else float(f"{steps * q:.15g}")


def base_of(logbase: float | str | None) -> float:
    """Return the base of the exponents of loguniform and lognormal: e unless the sampling algorithm gives another."""
    try:
        base = math.e if logbase in (None, "e") else float(str(logbase))
    except ValueError:
        base = 0.0
    if not 1 < base < math.inf:
        raise PipelineError(f"logbase {logbase!r} is not a valid base", "use a number above 1, or e")
    return base


def check_exponents(name: str, space: Distributions, base: float) -> None:
    """Refuse exponents whose power is too large for a number: they were meant to be the values themselves."""
    if "log" not in space.type:
        return
    if isinstance(space, Normal | QNormal):
        largest = max(abs(space.mu), abs(space.mu + 7.1 * space.sigma))
    elif isinstance(space, Uniform | QUniform):
        largest = max(abs(space.min_value), abs(space.max_value))
    if largest * math.log(base) > _LARGEST_EXPONENT:
        message = f"the search space's {name!r}: {space.type} takes exponents, and {base:.4g}**{largest:g} is too large"
        raise PipelineError(message, f"write the logarithms of the smallest and largest value of {name}")
