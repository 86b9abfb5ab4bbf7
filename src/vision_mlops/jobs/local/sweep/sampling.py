"""Draws the values of a sweep's trials and stores their results, so that an interrupted sweep can continue.

Each parameter is drawn as its position in its distribution, from 0 to 1. Random, Sobol and grid positions are determined by
the trial's number and the seed, so a resumed sweep draws what an uninterrupted one would have drawn. With Optuna's own
samplers for these that is not so: they count earlier draws, ``GridSampler`` shuffles the grid, and ``QMCSampler`` draws its
first trials at random. Bayesian positions come from Optuna's TPE, which learns from the trials that have ended.

Trials are stored as an Optuna study, in a file that is only appended to.
"""

from __future__ import annotations

import json
import math
import random
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from vision_mlops.core.errors import PipelineError, require
from vision_mlops.jobs.definitions.models.sweep import Choice, Distributions, Sampling, Sweep
from vision_mlops.jobs.local.sweep.distributions import base_of, check_exponents, value_at

TrialState = Literal["Completed", "Failed", "Canceled", "EarlyTerminated"]
_STUDY = "sweep"


@dataclass(frozen=True, slots=True)
class Draw:
    """A trial as it is stored; without a state it has not ended."""

    number: int
    values: dict[str, Any]
    state: TrialState | None = None
    value: float | None = None
    record: dict[str, Any] = field(default_factory=dict)


class Sampler:
    """Draws trials one after the other and stores their results.

    Args:
        sweep: Search space, sampling algorithm and goal.
        storage: File to continue or to create; only one process at a time may use it.
        seed: Seed for a sweep whose sampling algorithm has none; random if not given.

    Raises:
        PipelineError: the space contains numbers that are too large, or the file belongs to another sweep.
        MissingExtraError: Optuna, or SciPy for the rule sobol, is not installed.
    """

    def __init__(self, sweep: Sweep, storage: Path, *, seed: int | None = None) -> None:
        options = sweep.sampling_algorithm if isinstance(sweep.sampling_algorithm, Sampling) else None
        self._space = sweep.search_space
        self._kind = options.rule or options.type if options else sweep.sampling
        self._base = base_of(options.logbase if options else None)
        self._size = math.prod(_sizes(self._space)) if self._kind == "grid" else math.inf
        if self._kind == "sobol":
            _load_sobol()  # takes a second, and may be missing
        for name, space in self._space.items():
            check_exponents(name, space, self._base)
        self._open(storage, sweep.objective.goal)
        given = options.seed if options and options.seed is not None else seed
        self._seed = int(self._remember("seed", random.SystemRandom().randrange(2**32) if given is None else given))
        identity = _identity(sweep)
        if self._remember("sweep", identity) != identity:
            message = f"{storage} holds the trials of a sweep with another space, sampling algorithm or objective"
            raise PipelineError(message, "start a new job, or remove the file")

    def _open(self, path: Path, goal: Literal["maximize", "minimize"]) -> None:
        require("optuna")
        import optuna
        from optuna.storages.journal import JournalFileBackend

        self._optuna = optuna
        self._states = optuna.trial.TrialState
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)  # of storage and TPE
        path.parent.mkdir(parents=True, exist_ok=True)
        _repair(path)
        try:
            self._storage = optuna.storages.JournalStorage(JournalFileBackend(str(path)))
            self._study = optuna.create_study(
                storage=self._storage, study_name=_STUDY, direction=goal, load_if_exists=True
            )
        except (OSError, ValueError, KeyError) as error:
            raise PipelineError(f"{path} contains no trials: {error}", "remove it, or start a new job") from error
        self._id = self._storage.get_study_id_from_name(_STUDY)
        for trial in self._study.get_trials(deepcopy=False, states=(self._states.RUNNING,)):
            if "note" in trial.user_attrs:  # the process was killed between the two writes of _tell
                self._tell(trial.number, trial.user_attrs["note"]["value"], trial.user_attrs["note"])

    def _remember(self, key: str, value: Any) -> Any:
        """Store a value of the study once; return the one that was stored first."""
        found = self._study.user_attrs
        if key not in found:
            self._study.set_user_attr(key, value)
        return found.get(key, value)

    def ask(self) -> tuple[int, dict[str, Any]] | None:
        """Draw the number and values of a new trial; return None if a grid is exhausted."""
        number = len(self._drawn())
        if number >= self._size:
            return None
        distributions = {}
        if self._kind == "bayesian":
            # Seeded for each trial: otherwise a sampler would repeat its first draws after an interruption.
            seed = random.Random(f"{self._seed}/{number}").getrandbits(32)
            self._study.sampler = self._optuna.samplers.TPESampler(seed=seed, multivariate=True, constant_liar=True)
            distributions = {name: self._distribution(space) for name, space in self._space.items()}
        return number, self._values(self._positions(number, self._study.ask(distributions).params))

    def _distribution(self, space: Distributions) -> Any:
        """Return what TPE draws from: the index of a choice, or a position."""
        kinds = self._optuna.distributions
        if isinstance(space, Choice):
            return kinds.CategoricalDistribution(range(len(space.values)))
        return kinds.FloatDistribution(0, 1)

    def tell(
        self, number: int, value: float | None, state: TrialState, record: Mapping[str, Any] | None = None
    ) -> None:
        """Store how a trial ended.

        Args:
            number: As :meth:`ask` returned it.
            value: The objective, if there is one. That of an early-terminated trial guides the search, too.
            state: How it ended. A completed trial without a value counts as failed in the search.
            record: Other facts to store with it, as JSON.
        """
        self._tell(number, value, {"state": state, "value": value, "record": dict(record or {})})

    def _tell(self, number: int, value: float | None, note: dict[str, Any]) -> None:
        """Store how a trial ended: as a note of ours, and for the search as one of Optuna's states."""
        key = self._storage.get_trial_id_from_study_id_trial_number(self._id, number)
        self._storage.set_trial_user_attr(key, "note", note)
        if note["state"] == "EarlyTerminated":
            if value is not None:
                self._storage.set_trial_intermediate_value(key, 0, value)
            self._study.tell(number, state=self._states.PRUNED)
        elif note["state"] == "Completed" and value is not None:
            self._study.tell(number, value)
        else:
            self._study.tell(number, state=self._states.FAIL)

    def draws(self) -> list[Draw]:
        """List all trials in their order, including those that have not ended."""
        found = []
        for number, trial in enumerate(self._drawn()):
            note = trial.user_attrs.get("note", {})
            values = self._values(self._positions(number, trial.params))
            found.append(Draw(number, values, note.get("state"), note.get("value"), note.get("record", {})))
        return found

    def _drawn(self) -> list[Any]:
        """List the trials of the study, without one that waits because a process was killed before it was drawn."""
        return [trial for trial in self._study.get_trials(deepcopy=False) if trial.state != self._states.WAITING]

    def _values(self, positions: Mapping[str, float]) -> dict[str, Any]:
        return {name: value_at(space, positions[name], self._base) for name, space in self._space.items()}

    def _positions(self, number: int, stored: Mapping[str, int | float]) -> dict[str, float]:
        """Return the positions that TPE proposed, or those that the number determines."""
        # A process that was killed while it drew has only stored a part of what TPE proposed.
        if self._kind == "bayesian" and len(stored) == len(self._space):
            return {name: _position(space, stored[name]) for name, space in self._space.items()}
        if self._kind == "grid":
            return _grid_positions(self._space, number)
        if self._kind == "sobol":
            return dict(zip(self._space, _sobol_point(len(self._space), self._seed, number), strict=True))
        source = random.Random(f"{self._seed}/{number}")
        return {name: source.random() for name in self._space}


def _position(space: Distributions, stored: int | float) -> float:
    return (stored + 0.5) / len(space.values) if isinstance(space, Choice) else stored


def _repair(path: Path) -> None:
    """Repair a file that a killed process was writing: remove its lock, and an incomplete line at its end."""
    path.with_name(f"{path.name}.lock").unlink(missing_ok=True)
    if path.is_file():
        content = path.read_bytes()
        if content and not content.endswith(b"\n"):
            with path.open("r+b") as stream:
                stream.truncate(content.rfind(b"\n") + 1)


def _identity(sweep: Sweep) -> str:
    """Return what distinguishes a sweep from another one, as text."""
    algorithm = sweep.sampling_algorithm
    parts = {
        "space": {name: space.model_dump(mode="json") for name, space in sweep.search_space.items()},
        "sampling": algorithm.model_dump(mode="json") if isinstance(algorithm, Sampling) else algorithm,
        "objective": sweep.objective.model_dump(mode="json"),
    }
    return json.dumps(parts)  # in this order, on which the draws depend


def _sizes(space: Mapping[str, Distributions]) -> list[int]:
    """Return the number of values of each parameter of a grid."""
    for name, item in space.items():
        if not isinstance(item, Choice):
            message = f"grid sampling cannot draw {name!r} from {item.type}"
            raise PipelineError(message, "grid accepts choice; `sampling_algorithm: random` accepts all")
    return [len(item.values) for item in space.values() if isinstance(item, Choice)]


def _grid_positions(space: Mapping[str, Distributions], number: int) -> dict[str, float]:
    """Return the combination with a number; the last parameter changes fastest."""
    positions = {}
    for name, size in reversed(list(zip(space, _sizes(space), strict=True))):
        number, index = divmod(number, size)
        positions[name] = (index + 0.5) / size
    return positions


def _load_sobol() -> Any:
    require("scipy")
    from scipy.stats import qmc

    return qmc.Sobol


def _sobol_point(dimensions: int, seed: int, number: int) -> list[float]:
    """Return a point of a scrambled Sobol sequence."""
    sequence = _load_sobol()(dimensions, scramble=True, rng=seed)
    if number:
        sequence.fast_forward(number)
    return [float(position) for position in sequence.random(1)[0]]
