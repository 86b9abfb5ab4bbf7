"""What a contestant says of itself after it has learned, checked: its class may be somebody's own."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

from pydantic import ValidationError

from vision_mlops.benchmark.benchmark_result import UsedAmounts
from vision_mlops.benchmark.contestant import Contestant, Usage
from vision_mlops.core.errors import MlopsError


@dataclass(frozen=True, slots=True)
class ContestantAnswers:
    """The answers, as a result keeps them."""

    size_bytes: int | None
    training_seconds: float | None
    usage: UsedAmounts | None
    remark: str


def answers_of(contestant: Contestant) -> ContestantAnswers:
    """Ask a contestant.

    Raises:
        MlopsError: an answer is not what the method should return; the message names the method.
    """
    size = _asked("size_bytes", contestant.size_bytes(), _is_count, "a whole number of bytes")
    seconds = _asked("training_seconds", contestant.training_seconds(), _is_amount, "seconds as a number of 0 or more")
    used = _asked("usage", contestant.usage(), lambda found: isinstance(found, Usage), "a Usage")
    remark = contestant.remark()
    if not isinstance(remark, str):
        raise MlopsError(f"remark() returned {remark!r}", "return a text, which may be empty")
    return ContestantAnswers(
        None if size is None else int(size), None if seconds is None else float(seconds), _amounts(used), remark
    )


def _asked(method: str, found: Any, is_right: Callable[[Any], bool], what: str) -> Any:
    if found is not None and not is_right(found):
        raise MlopsError(f"{method}() returned {found!r}", f"return {what}, or None")
    return found


def _is_count(found: Any) -> bool:
    return isinstance(found, Integral) and int(found) >= 0


def _is_amount(found: Any) -> bool:
    return isinstance(found, Real) and 0 <= float(found) < math.inf


def _amounts(used: Usage | None) -> UsedAmounts | None:
    if used is None:
        return None
    try:
        return UsedAmounts(training=dict(used.training), per_prediction=dict(used.per_prediction))
    except (ValidationError, TypeError, ValueError) as error:
        raise MlopsError(
            f"usage() returned {used!r}",
            "give each amount, a number of 0 or more, by the key of its price in prices.yml",
        ) from error
