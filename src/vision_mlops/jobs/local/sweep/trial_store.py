"""Keeps a sweep's trials in a file that is only appended to, as an Optuna study of positions in their distributions."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from vision_mlops.core.errors import MissingExtraError, PipelineError
from vision_mlops.jobs.definitions.models.sweep import Choice, Distributions
from vision_mlops.jobs.local.sweep.distributions import parameter_of, position_of

_STUDY = "sweep"


class TrialStore:
    """An Optuna study of positions. Choices are categories, everything else a number from 0 to 1."""

    def __init__(self, path: Path, goal: Literal["maximize", "minimize"]) -> None:
        try:
            import optuna
            from optuna.storages.journal import JournalFileBackend
        except ImportError as error:
            raise MissingExtraError("optuna", "train") from error
        self._optuna = optuna
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        path.parent.mkdir(parents=True, exist_ok=True)
        _mend(path)
        try:
            with _quiet():
                self._storage = optuna.storages.JournalStorage(JournalFileBackend(str(path)))
                self._study = optuna.create_study(
                    storage=self._storage, study_name=_STUDY, direction=goal, load_if_exists=True
                )
        except (OSError, ValueError, KeyError) as error:
            raise PipelineError(f"{path} holds no trials: {error}", "remove it, or start a new job") from error
        self._id = self._storage.get_study_id_from_name(_STUDY)
        for trial in self._study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,)):
            if "note" in trial.user_attrs:  # the process was killed between the two writes of tell
                self.tell(trial.number, trial.user_attrs["note"]["value"], trial.user_attrs["note"])

    @property
    def count(self) -> int:
        """Number of trials that were drawn."""
        waiting = self._optuna.trial.TrialState.WAITING
        return sum(trial.state != waiting for trial in self._study.get_trials(deepcopy=False))

    def remember(self, key: str, value: Any) -> Any:
        """Store a value of the study once; returns the one that was stored first."""
        found = self._study.user_attrs
        if key not in found:
            self._study.set_user_attr(key, value)
        return found.get(key, value)

    def suggest(self, space: Mapping[str, Distributions], seed: int) -> dict[str, float]:
        """Positions of a new trial that Optuna's TPE proposes."""
        with _quiet():
            # Seeded anew for each trial: one that goes on after an interruption would repeat its first draws.
            self._study.sampler = self._optuna.samplers.TPESampler(seed=seed, multivariate=True, constant_liar=True)
            return self._ask(space)

    def add(self, space: Mapping[str, Distributions], positions: Mapping[str, float]) -> None:
        """A new trial with these positions."""
        with _quiet():
            waiting = (self._optuna.trial.TrialState.WAITING,)
            if not self._study.get_trials(deepcopy=False, states=waiting):  # one may be left from a killed process
                self._study.enqueue_trial({name: parameter_of(space[name], at) for name, at in positions.items()})
            self._ask(space)

    def _ask(self, space: Mapping[str, Distributions]) -> dict[str, float]:
        kinds = self._optuna.distributions
        trial = self._study.ask(
            {
                name: kinds.CategoricalDistribution(range(len(item.values)))
                if isinstance(item, Choice)
                else kinds.FloatDistribution(0, 1)
                for name, item in space.items()
            }
        )
        return {name: position_of(space[name], value) for name, value in trial.params.items()}

    def tell(self, number: int, value: float | None, note: dict[str, Any]) -> None:
        """Store how a trial ended: for us as a note, for the search as one of Optuna's states."""
        states = self._optuna.trial.TrialState
        key = self._storage.get_trial_id_from_study_id_trial_number(self._id, number)
        with _quiet():
            self._storage.set_trial_user_attr(key, "note", note)
            if note["state"] == "EarlyTerminated":
                if value is not None:
                    self._storage.set_trial_intermediate_value(key, 0, value)
                self._study.tell(number, state=states.PRUNED)
            elif note["state"] == "Completed" and value is not None:
                self._study.tell(number, value)
            else:
                self._study.tell(number, state=states.FAIL)

    def trials(self, space: Mapping[str, Distributions]) -> Iterator[tuple[dict[str, float], dict[str, Any]]]:
        """Positions and notes of the trials that were drawn."""
        for trial in self._study.get_trials(deepcopy=False):
            if trial.state != self._optuna.trial.TrialState.WAITING:
                positions = {name: position_of(space[name], value) for name, value in trial.params.items()}
                yield positions, trial.user_attrs.get("note", {})


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Optuna's notes about experimental features to itself."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _mend(path: Path) -> None:
    """Make a file usable that a killed process was writing: without its lock, and without half a line at its end."""
    path.with_name(f"{path.name}.lock").unlink(missing_ok=True)
    if path.is_file():
        content = path.read_bytes()
        if content and not content.endswith(b"\n"):
            with path.open("r+b") as stream:
                stream.truncate(content.rfind(b"\n") + 1)
