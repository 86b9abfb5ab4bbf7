"""Draws the values of a sweep's trials, and keeps what became of them, so that an interrupted sweep goes on.

Each parameter is drawn as its position in its distribution, from 0 to 1. Random, Sobol and grid positions follow from
the trial's number and the seed, so a resumed sweep draws what an uninterrupted one would have. Bayesian positions come
from Optuna's TPE, which learns from the trials that have ended.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from vision_mlops.core.errors import MissingExtraError, PipelineError
from vision_mlops.jobs.definitions.models.sweep import Choice, Distributions, Sampling, Sweep
from vision_mlops.jobs.local.sweep.distributions import base_of, check_exponents, value_at
from vision_mlops.jobs.local.sweep.trial_store import TrialStore

TrialState = Literal["Completed", "Failed", "Canceled", "EarlyTerminated"]


@dataclass(frozen=True, slots=True)
class Draw:
    """A trial as it is stored: without a state it has not ended."""

    number: int
    values: dict[str, Any]
    state: TrialState | None = None
    value: float | None = None
    record: dict[str, Any] = field(default_factory=dict)


class Sampler:
    """Draws trials one after the other and stores what became of them.

    Args:
        sweep: Search space, sampling algorithm and goal.
        storage: File to go on with, or to begin; one process at a time may use it.
        seed: For a sweep whose sampling algorithm has none; else one is drawn.

    Raises:
        PipelineError: the space holds numbers too large to draw, or the file belongs to another sweep.
        MissingExtraError: Optuna, or SciPy for the rule sobol, is not installed.
    """

    def __init__(self, sweep: Sweep, storage: Path, *, seed: int | None = None) -> None:
        options = sweep.sampling_algorithm if isinstance(sweep.sampling_algorithm, Sampling) else None
        self._space = sweep.search_space
        self._kind = options.rule or options.type if options else sweep.sampling
        self._base = base_of(options.logbase if options else None)
        self._size = math.prod(_sizes(self._space)) if self._kind == "grid" else None
        if self._kind == "sobol":
            _load_sobol()  # which takes a second, and may be missing
        for name, space in self._space.items():
            check_exponents(name, space, self._base)
        self._file = TrialStore(storage, sweep.objective.goal)
        given = options.seed if options and options.seed is not None else seed
        self._seed = int(
            self._file.remember("seed", random.SystemRandom().randrange(2**32) if given is None else given)
        )
        identity = _identity(sweep)
        if self._file.remember("sweep", identity) != identity:
            message = f"{storage} holds the trials of a sweep with another space, sampling algorithm or objective"
            raise PipelineError(message, "start a new job, or remove the file")

    def ask(self) -> tuple[int, dict[str, Any]] | None:
        """Number and values of a new trial; None where a grid is exhausted."""
        number = self._file.count
        if self._size is not None and number >= self._size:
            return None
        if self._kind == "bayesian":
            positions = self._file.suggest(self._space, random.Random(f"{self._seed}/{number}").getrandbits(32))
        else:
            positions = self._positions(number)
            self._file.add(self._space, positions)
        return number, self._values(positions)

    def tell(
        self, number: int, value: float | None, state: TrialState, record: Mapping[str, Any] | None = None
    ) -> None:
        """Store how a trial ended.

        Args:
            number: As :meth:`ask` gave it.
            value: The objective, None where there is none. That of an early-terminated trial guides the search too.
            state: How it ended. A completed trial without a value counts as failed in the search.
            record: What else is to be known about it later: JSON.
        """
        self._file.tell(number, value, {"state": state, "value": value, "record": dict(record or {})})

    def draws(self) -> list[Draw]:
        """All trials in their order, with those that have not ended."""
        found = []
        for number, (positions, note) in enumerate(self._file.trials(self._space)):
            # A process that was killed while it drew has stored only some positions.
            whole = positions if self._kind == "bayesian" and len(positions) == len(self._space) else None
            values = self._values(whole or self._positions(number))
            found.append(Draw(number, values, note.get("state"), note.get("value"), note.get("record", {})))
        return found

    def _values(self, positions: Mapping[str, float]) -> dict[str, Any]:
        return {name: value_at(space, positions[name], self._base) for name, space in self._space.items()}

    def _positions(self, number: int) -> dict[str, float]:
        """Positions that follow from the number alone."""
        if self._kind == "grid":
            return _grid_positions(self._space, number)
        if self._kind == "sobol":
            return dict(zip(self._space, _sobol_point(len(self._space), self._seed, number), strict=True))
        source = random.Random(f"{self._seed}/{number}")
        return {name: source.random() for name in self._space}


def _identity(sweep: Sweep) -> str:
    """What makes a sweep another one, as text."""
    algorithm = sweep.sampling_algorithm
    parts = {
        "space": {name: space.model_dump(mode="json") for name, space in sweep.search_space.items()},
        "sampling": algorithm.model_dump(mode="json") if isinstance(algorithm, Sampling) else algorithm,
        "objective": sweep.objective.model_dump(mode="json"),
    }
    return json.dumps(parts)  # in their order, on which the draws depend


def _sizes(space: Mapping[str, Distributions]) -> list[int]:
    """Number of values of each parameter of a grid."""
    for name, item in space.items():
        if not isinstance(item, Choice):
            message = f"grid sampling cannot draw {name!r} from {item.type}"
            raise PipelineError(message, "grid takes choice; `sampling_algorithm: random` takes all")
    return [len(item.values) for item in space.values() if isinstance(item, Choice)]


def _grid_positions(space: Mapping[str, Distributions], number: int) -> dict[str, float]:
    """The combination with this number, of which the last parameter changes fastest."""
    positions = {}
    for name, size in reversed(list(zip(space, _sizes(space), strict=True))):
        number, index = divmod(number, size)
        positions[name] = (index + 0.5) / size
    return positions


def _load_sobol() -> Any:
    try:
        from scipy.stats import qmc
    except ImportError as error:
        raise MissingExtraError("scipy", "train") from error
    return qmc.Sobol


def _sobol_point(dimensions: int, seed: int, number: int) -> list[float]:
    """A point of a scrambled Sobol sequence."""
    sequence = _load_sobol()(dimensions, scramble=True, rng=seed)
    if number:
        sequence.fast_forward(number)
    return [float(position) for position in sequence.random(1)[0]]
