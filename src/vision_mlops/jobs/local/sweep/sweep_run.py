"""Runs a sweep: draws trials, starts as many as may run, terminates poor ones early, and finds the best.

It never waits: the caller calls :meth:`SweepRun.poll` about ten times a second until there is a result.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from vision_mlops.core.errors import MlopsError
from vision_mlops.core.text import counted
from vision_mlops.jobs.definitions.models.sweep import Sweep
from vision_mlops.jobs.local.sweep.early_termination import Curve, stops
from vision_mlops.jobs.local.sweep.sampling import Sampler, TrialState
from vision_mlops.jobs.local.sweep.trials import Report, Trial, TrialHandle, TrialLauncher

STORAGE = "trials.log"
# Azure ML's default.
_LONGEST_SWEEP = 5184000.0
_READ_EVERY = 1.0
_READ_BUDGET = 0.05


@dataclass(frozen=True, slots=True)
class SweepResult:
    """How a sweep ended; ``best`` is the completed trial with the best metric, which a completed sweep has."""

    status: Literal["Completed", "Failed", "Canceled"]
    trials: tuple[Trial, ...]
    best: Trial | None = None
    message: str = ""


@dataclass(slots=True)
class _Running:
    number: int
    values: dict[str, Any]
    handle: TrialHandle
    began: float
    read: float
    reports: tuple[Report, ...] = ()
    judged: int = 0
    ending: TrialState | None = None  # its state once it has ended as requested
    reason: str = ""
    cut_short: bool = False  # by the end of the sweep, not for a reason of its own


@dataclass
class SweepRun:
    """One sweep, new or continued.

    Attributes:
        sweep: Space, sampling, objective, limits and early termination.
        folder: Folder of the trials. Trials there that have ended count; those that have not are started again.
        launch: Starts a trial.
        clock: Returns seconds, for limits. The sweep's own limit counts from the first :meth:`poll` of this process.
        seed: Seed for a sampling algorithm that has none.

    Raises:
        MlopsError: the search space cannot be drawn from, or the folder belongs to another sweep.
    """

    sweep: Sweep
    folder: Path
    launch: TrialLauncher
    clock: Callable[[], float] = time.monotonic
    seed: int | None = None

    def __post_init__(self) -> None:
        self._sampler = Sampler(self.sweep, self.folder / STORAGE, seed=self.seed)
        self._total = self.sweep.limits.max_total_trials
        self._at_once = self.sweep.limits.max_concurrent_trials or self._total
        self._ended: dict[int, Trial] = {}
        self._again: list[tuple[int, dict[str, Any]]] = []
        self._running: list[_Running] = []
        self._logged: set[str] = set()
        self._exhausted = False
        self._stopped: Literal["", "canceled", "timeout"] = ""
        self._reason = ""
        self._began: float | None = None
        self._result: SweepResult | None = None
        for draw in self._sampler.draws():
            if draw.state is None:
                self._again.append((draw.number, draw.values))
            else:
                reports = tuple((int(step), float(value)) for step, value in draw.record["reports"])
                self._ended[draw.number] = Trial(
                    draw.number, draw.values, draw.state, draw.value, reports,
                    draw.record["seconds"], draw.record["message"],
                )  # fmt: skip
                self._logged.update(draw.record["logged"])

    @property
    def trials(self) -> tuple[Trial, ...]:
        """All trials that were started, in their order, including those that are running."""
        now = self.clock()
        found = dict(self._ended)
        for item in self._running:
            metric, seconds = self._best_report(item.reports), now - item.began
            found[item.number] = Trial(item.number, item.values, "Running", metric, item.reports, seconds, item.reason)
        return tuple(found[number] for number in sorted(found))

    def poll(self, free_slots: int) -> SweepResult | None:
        """Check on the trials and start one more if possible; return the result once there is one.

        Args:
            free_slots: How many more processes may be started now.
        """
        if self._result is None:
            now = self.clock()
            self._began = now if self._began is None else self._began
            self._collect(now)
            self._read(now)
            self._enforce(now, now - self._began)
            if not self._stopped and free_slots > 0:
                self._start(now)
            if not self._running and (self._stopped or not self._more):
                self._result = self._conclude()
        return self._result

    def cancel(self) -> None:
        """End the running trials and start no more; :meth:`poll` says when they have ended. They can be continued later."""
        self._stop("canceled", "the sweep was canceled")

    @property
    def _more(self) -> bool:
        """Whether there are trials to start."""
        drawn = len(self._ended) + len(self._running) + len(self._again)
        return bool(self._again) or (drawn < self._total and not self._exhausted)

    def _collect(self, now: float) -> None:
        """Record the trials that have ended."""
        for item in list(self._running):
            code = item.handle.poll()
            if code is None:
                continue
            self._running.remove(item)
            item.reports = _finite(item.handle.metrics())
            if item.ending is not None:
                self._book(item, item.ending, item.reason, now)
            elif code:
                self._book(item, "Failed", f"exit code {code}", now)
            elif item.reports:
                self._book(item, "Completed", "", now)
            else:
                logged = sorted(item.handle.metric_names())
                self._logged.update(logged)
                message = f"did not log {self._metric!r}, but {_listed(logged)}"
                self._book(item, "Completed", message, now, logged)

    def _book(
        self, item: _Running, state: TrialState, message: str, now: float, logged: list[str] | None = None
    ) -> None:
        """Record how a trial ended. One that was cut short is not stored, so that it is started again."""
        metric, seconds = self._best_report(item.reports), round(now - item.began, 3)
        trial = Trial(item.number, item.values, state, metric, item.reports, seconds, message)
        self._keep(trial, state, logged, stored=not item.cut_short)

    def _keep(self, trial: Trial, state: TrialState, logged: list[str] | None = None, *, stored: bool = True) -> None:
        self._ended[trial.number] = trial
        if stored:
            facts = {"reports": trial.reports, "seconds": trial.seconds, "message": trial.message}
            self._sampler.tell(trial.number, trial.metric, state, {**facts, "logged": logged or []})

    def _read(self, now: float) -> None:
        """Read what the trials have reported: each once a second, the longest waiting first, within a time limit."""
        for item in sorted(self._running, key=lambda item: item.read):
            if now - item.read < _READ_EVERY or self.clock() - now > _READ_BUDGET:
                return
            item.read = now
            if item.ending is None:
                item.reports = _finite(item.handle.metrics())

    def _enforce(self, now: float, elapsed: float) -> None:
        """End trials that have taken too long, or that the policy terminates."""
        limits, policy, metric = self.sweep.limits, self.sweep.early_termination, self._metric
        longest = limits.timeout or _LONGEST_SWEEP
        if elapsed > longest:
            self._stop("timeout", f"the sweep reached its timeout of {longest:g} seconds")
        for item in self._running:
            if item.ending is None and limits.trial_timeout and now - item.began > limits.trial_timeout:
                self._end(item, "Canceled", f"reached the trial_timeout of {counted(limits.trial_timeout, 'second')}")
        running = {item.number: item for item in self._running if item.ending is None}
        if policy is None or all(item.judged == len(item.reports) for item in running.values()):
            return
        for number, reason in stops(policy, self.sweep.objective.goal, metric, self._curves()).items():
            self._end(running[number], "EarlyTerminated", reason)
        for item in running.values():
            item.judged = len(item.reports)

    def _curves(self) -> list[Curve]:
        """Return what the policy compares, without trials that failed or were canceled, which cannot be the best."""
        ended = [trial for trial in self._ended.values() if trial.state in ("Completed", "EarlyTerminated")]
        curves = [Curve(trial.number, _values(trial.reports), running=False) for trial in ended]
        for item in self._running:
            if item.ending != "Canceled":
                curves.append(Curve(item.number, _values(item.reports), item.ending is None, item.judged))
        return curves

    def _start(self, now: float) -> None:
        """Start one trial. One at a time, because drawing takes a moment."""
        if len(self._running) >= self._at_once or not self._more:
            return
        drawn = self._again.pop(0) if self._again else self._sampler.ask()
        if drawn is None:
            self._exhausted = True
            return
        number, values = drawn
        try:
            handle = self.launch(number, values)
        except MlopsError as error:
            self._keep(Trial(number, values, "Failed", message=error.message), "Failed")
            return
        self._running.append(_Running(number, values, handle, began=now, read=now))

    def _stop(self, why: Literal["canceled", "timeout"], reason: str) -> None:
        if not self._stopped and self._result is None:
            self._stopped, self._reason = why, reason
            for item in self._running:
                if item.ending is None:
                    item.cut_short = True
                    self._end(item, "Canceled", reason)

    @staticmethod
    def _end(item: _Running, state: TrialState, reason: str) -> None:
        item.ending, item.reason = state, reason
        item.handle.cancel()

    def _conclude(self) -> SweepResult:
        trials = self.trials
        if self._stopped == "canceled":
            return SweepResult("Canceled", trials, self._best(trials), self._reason)
        best = self._best(trials)
        if best is not None:
            return SweepResult("Completed", trials, best, self._reason)
        completed = [trial for trial in trials if trial.state == "Completed"]
        if completed:
            message = (
                f"no trial logged the primary metric {self._metric!r}; they logged {_listed(sorted(self._logged))}"
            )
        else:
            message = self._reason or f"none of the {counted(len(trials), 'trial')} completed"
            if trials and not self._reason:
                message += f": trial {trials[0].number}: {trials[0].message}"
        return SweepResult("Failed", trials, None, message)

    @property
    def _metric(self) -> str:
        return self.sweep.objective.primary_metric

    def _best(self, trials: tuple[Trial, ...]) -> Trial | None:
        """Return the completed trial with the best metric, the first of equals."""
        judged = [trial for trial in trials if trial.state == "Completed" and trial.metric is not None]
        sign = 1 if self.sweep.objective.goal == "maximize" else -1
        return max(judged, key=lambda trial: sign * (trial.metric or 0.0), default=None)

    def _best_report(self, reports: tuple[Report, ...]) -> float | None:
        choose = max if self.sweep.objective.goal == "maximize" else min
        return choose(_values(reports), default=None)


def _finite(reports: Sequence[Report]) -> tuple[Report, ...]:
    return tuple((step, value) for step, value in reports if math.isfinite(value))


def _values(reports: tuple[Report, ...]) -> tuple[float, ...]:
    return tuple(value for _, value in reports)


def _listed(names: list[str]) -> str:
    return ", ".join(names) if names else "no metric"
