"""Drives a rollout: deploys the candidate, moves the traffic step by step as the judge allows, and completes it.

The state is written before each action, and each phase can be started again: however this process ends, the next one
continues or rolls back.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NoReturn

from vision_mlops.azure.azure_errors import is_transient
from vision_mlops.core.errors import AzureError, DeploymentError, MlopsError, RegistryError
from vision_mlops.core.interruption import Interruption
from vision_mlops.endpoints.contract import DeploymentRequest, Endpoint, EndpointStatus
from vision_mlops.registry import CHAMPION
from vision_mlops.rollout.driver_process import WakeUp
from vision_mlops.rollout.interval import Interval
from vision_mlops.rollout.judge import Judgement, StepVerdict, judge
from vision_mlops.rollout.observer import Observer
from vision_mlops.rollout.probe_images import ProbeImage
from vision_mlops.rollout.probes import Prober
from vision_mlops.rollout.rollout_endpoint import Controls, LostError, has, shares
from vision_mlops.rollout.rollout_report import Report, RolloutOutcome, telling
from vision_mlops.rollout.rollout_state import Order, Phase, Rollout

_LOG_LINES = 500
_LOG_SHOWN = 40
_DEPLOY_SECONDS = 3600.0
_ENDING_SECONDS = 900.0
_RENEW_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class RolloutResult:
    """How driving ended. ``problem`` is what is left to fix by hand although the rollout is over.

    ``report`` is None where another process drove.
    """

    outcome: RolloutOutcome
    reasons: tuple[str, ...] = ()
    problem: str = ""
    report: Report | None = None


class _Turn(Exception):  # noqa: N818 - not an error
    """The rollout continues with another phase than the next step."""

    def __init__(self, phase: Phase, *reasons: str) -> None:
        super().__init__(phase)
        self.phase = phase
        self.reasons = reasons


class _Paused(Exception):  # noqa: N818 - not an error
    """A signal asks to leave the rollout as it is."""


class Driver:
    """One process that drives a rollout; the caller holds the lock.

    Args:
        controls: The endpoint, and how to drive.
        state: As it was read, or of a new rollout, not written yet.
        report: Report that is kept up to date.
        images: Images that probes send.
        request: The candidate's deployment; None if a rollout continues whose candidate is deployed.
    """

    def __init__(
        self,
        controls: Controls,
        state: Rollout,
        report: Report,
        images: Sequence[ProbeImage],
        request: DeploymentRequest | None,
    ) -> None:
        self._controls = controls
        self._place = controls.place()
        self._state = state
        self._report = report
        self._images = images
        self._request = request
        self._say = controls.say
        self._wake_up = WakeUp(controls.target.name, controls.endpoint)
        self._interruption = Interruption()

    def drive(self) -> RolloutResult:
        """Continue until the rollout is over or a signal pauses it.

        Raises:
            MlopsError: the target refuses; the message says how the rollout was left, and how to continue.
        """
        phases: dict[Phase, Callable[[], RolloutResult | None]] = {
            Phase.DEPLOY: self._deploy, Phase.STEP: self._step, Phase.FINISH: self._finish, Phase.CLOSE: self._close,
            Phase.ROLLBACK: self._roll_back,
        }  # fmt: skip
        with self._interruption:
            try:
                self._write(self._state, first=True)
                while True:
                    try:
                        if (ending := phases[self._state.phase]()) is not None:
                            return ending
                    except _Turn as turn:
                        self._turn(turn)
            except _Paused:
                return self._pause()
            except LostError:
                raise
            except MlopsError as error:
                self._leave(error)

    def _turn(self, turn: _Turn) -> None:
        for reason in turn.reasons:
            self._say(reason)
        if turn.phase is Phase.ROLLBACK:
            self._report.failed(list(turn.reasons))
        self._write(self._state.at(turn.phase))

    # Phases

    def _deploy(self) -> None:
        state, request = self._state, self._request
        found = next((item for item in self._place.endpoint().deployments if item.name == state.candidate), None)
        ready = found is not None and found.state is EndpointStatus.READY
        if request is None and not ready and state.optioned:
            raise DeploymentError(
                f"{state.candidate} is not deployed yet, and its options are no longer known",
                f"repeat `mlops rollout start {self._place.name}` with the same options, or abort",
            )
        if request is not None and not (ready and not request.options.given()):
            self._say(f"deploying {state.candidate} ({state.model}) beside {state.champion}")
            try:
                self._place.deploy(request)
            except MlopsError as error:
                if isinstance(error, AzureError) and is_transient(error):
                    raise
                raise _Turn(Phase.ROLLBACK, f"{state.candidate} could not be deployed: {error}") from error
        self._look_up()
        self._write(self._state.at(Phase.STEP, 0))

    def _step(self) -> None:
        state, pace = self._state, self._controls.pace
        self._obey()
        self._say(state.describe())
        self._report.begin_step(state)
        began = time.monotonic()
        self._share(*state.step.traffic(state.candidate, state.champion))
        prober = Prober(self._controls.ask, self._place.access(), self._images, state.candidate, state.champion, pace)
        prober.start()
        try:
            self._watch(prober, began)
        finally:
            prober.end()
        following = state.number + 1
        if following < len(state.steps):
            self._write(self._state.at(Phase.STEP, following))
        else:
            self._look_up()  # the last chance to abort
            self._write(self._state.at(Phase.FINISH))

    def _watch(self, prober: Prober, began: float) -> None:
        """Watch a step until it is passed. Raises _Turn if it is not."""
        state, pace = self._state, self._controls.pace
        observer: Observer | None = None
        heartbeat, renewal = Interval(pace.beat), Interval(_RENEW_SECONDS)
        judging, reminder = Interval(pace.look), Interval(pace.beat)
        while True:
            time.sleep(pace.tick)
            asked = self._interruption.asked or self._wake_up.came()
            problem = self._look_up(expected=True) if heartbeat.over(early=asked) else ""
            if observer is None and prober.warm.is_set():
                observer = Observer(state.step, state.candidate, state.champion, self._place.counts(), began)
                prober.count()
            if renewal.over(early=prober.refused):
                prober.renew(self._place.access())
            if prober.problem:
                raise DeploymentError(prober.problem, "check that the images exist, then resume")
            if not judging.over(early=bool(problem)):
                continue
            judgement = self._judge(observer, prober, problem, began)
            if judgement.verdict is StepVerdict.CONTINUE:
                for reason in judgement.reasons:
                    self._say(f"  {reason}")
                return
            if reminder.over():
                self._say(f"  waiting: {'; '.join(judgement.reasons)}")

    def _judge(self, observer: Observer | None, prober: Prober, problem: str, began: float) -> Judgement:
        """Return the judgement on the step so far. Raises _Turn if the candidate fails."""
        state = self._state
        counts = self._place.counts() if observer is not None else None
        observer = observer or Observer(state.step, state.candidate, state.champion, None, began)
        seen = observer.see(counts, prober.pairs(), problem)
        judgement = judge(seen, state.limits)
        self._report.judged(judgement, seen)
        if judgement.verdict is StepVerdict.FAIL:
            what = f"{state.candidate} failed at {state.describe()}"
            raise _Turn(Phase.ROLLBACK, *(f"{what}: {reason}" for reason in judgement.reasons))
        return judgement

    def _finish(self) -> None:
        state = self._state
        endpoint = self._place.endpoint()
        if not has(endpoint, state.candidate):
            if not has(endpoint, state.champion):
                raise DeploymentError(f"neither {state.candidate} nor {state.champion} exists any more")
            raise _Turn(Phase.ROLLBACK, f"{state.candidate} does not exist any more")
        self._share({state.candidate: 100}, {})
        self._write(state.at(Phase.CLOSE))

    def _close(self) -> RolloutResult:
        state = self._state
        problem = "" if state.wishes.no_alias else self._move_alias()
        if not state.wishes.keep_champion and self._place.delete_deployment(state.champion):
            self._say(f"removed {state.champion}")
        self._place.clear()
        self._report.write(RolloutOutcome.PROMOTED)
        self._say(f"{state.candidate} ({state.model}) has all traffic of {self._place.name}")
        return RolloutResult(RolloutOutcome.PROMOTED, problem=problem, report=self._report)

    def _roll_back(self) -> RolloutResult:
        state = self._state
        if not has(self._place.endpoint(), state.champion):
            raise _Turn(Phase.FINISH, f"{state.champion} does not exist any more: continuing with {state.candidate}")
        if self._place.set_traffic({state.champion: 100}, {}):
            self._say(f"{state.champion} has all traffic again")
        self._report.shared({state.champion: 100}, {})
        if has(self._place.endpoint(), state.candidate):
            self._report.content["log"] = telling(self._place.logs(state.candidate, _LOG_LINES), _LOG_SHOWN)
            self._report.write(RolloutOutcome.UNDER_WAY)
            if not state.wishes.keep_candidate:
                self._place.delete_deployment(state.candidate)
                self._say(f"removed {state.candidate}")
        self._place.clear()
        self._report.write(RolloutOutcome.ROLLED_BACK)
        return RolloutResult(RolloutOutcome.ROLLED_BACK, tuple(self._report.content["reasons"]), report=self._report)

    def _move_alias(self) -> str:
        """Make the candidate's version the champion of its model; return why that failed, if it did."""
        state, registry = self._state, self._controls.registry
        try:
            version = registry.get(state.model)
            if CHAMPION not in version.aliases:
                registry.promote(version.name, version.version, force=state.wishes.force)
                self._say(f"{version.name}@{CHAMPION} is {version.reference}")
        except RegistryError as error:
            problem = f"the alias {CHAMPION} was not moved to {state.model}: {error}"
            self._report.note(problem)
            return problem
        return ""

    # Shared by the phases

    def _share(self, traffic: dict[str, int], mirror: dict[str, int]) -> None:
        """Set the traffic; a candidate that cannot serve any fails."""
        try:
            self._place.set_traffic(traffic, mirror)
            self._report.shared(traffic, mirror)
        except DeploymentError as error:
            problem = self._unfit(self._place.endpoint())
            if not problem:
                raise
            raise _Turn(Phase.ROLLBACK, problem) from error

    def _look_up(self, *, expected: bool = False) -> str:
        """Obey orders of other processes, renew the lease in time, and return why the candidate cannot serve.

        Args:
            expected: Whether the traffic must be that of the step.
        """
        self._obey()
        endpoint, self._state = self._place.look(self._state)
        self._obey()
        if self._state.until - time.time() < self._controls.pace.lease / 2:
            self._write(self._state)  # rarely, because Azure takes a while to change tags
        problem = self._unfit(endpoint)
        wanted = self._state.step.traffic(self._state.candidate, self._state.champion)
        if expected and not problem and shares(endpoint) != wanted:
            raise DeploymentError(
                f"the traffic of {self._place.name} was changed by someone else, to {_shown(endpoint)}",
                "resume sets it again; abort gives all of it to the champion",
            )
        return problem

    def _obey(self) -> None:
        if self._state.order is Order.ABORT:
            raise _Turn(Phase.ROLLBACK, "it was aborted")
        if self._state.order is Order.PROMOTE:
            self._report.note("the remaining steps were skipped")
            raise _Turn(Phase.FINISH, f"{self._state.candidate} is promoted without the remaining steps")
        if self._interruption.asked:
            if self._controls.roll_back_on_interrupt:
                raise _Turn(Phase.ROLLBACK, "it was interrupted")
            raise _Paused

    def _unfit(self, endpoint: Endpoint) -> str:
        name = self._state.candidate
        if not has(endpoint, name):
            return f"{name} does not exist any more"
        found = endpoint.deployment(name)
        bad = found.state in (EndpointStatus.FAILED, EndpointStatus.STOPPED)
        return f"{name} is {found.state}{f': {found.problem}' if found.problem else ''}" if bad else ""

    def _write(self, state: Rollout, *, first: bool = False) -> None:
        seconds = {Phase.DEPLOY: _DEPLOY_SECONDS, Phase.STEP: self._controls.pace.lease}.get(
            state.phase, _ENDING_SECONDS
        )
        self._state = self._place.write(state.driven(seconds), first=first)

    def _pause(self) -> RolloutResult:
        traffic = _shown(self._place.endpoint())
        self._release()
        where = f"{self._state.describe()} ({traffic})"
        told = f"the rollout of {self._state.candidate} is paused at {where}"
        return RolloutResult(RolloutOutcome.PAUSED, (told,), report=self._report)

    def _leave(self, error: MlopsError) -> NoReturn:
        """Leave a state that another process can continue after the target refused, and say how."""
        state, name, on = self._state, self._place.name, f"--on {self._place.target.name}"
        self._report.note(f"left: {error.message}")
        self._release()
        if state.phase is Phase.ROLLBACK:
            raise DeploymentError(
                f"the rollback of {name} did not finish: {error.message}",
                f"run mlops rollout abort {name} {on} again; by hand: mlops endpoint traffic {name}"
                f" {state.champion}=100 {on}, then mlops endpoint delete {name} --deployment {state.candidate} {on}",
            ) from error
        first = f"{error.hint}; then " if error.hint else ""
        raise DeploymentError(
            f"the rollout of {state.candidate} stopped at {state.describe()}: {error.message}",
            f"{first}mlops rollout resume {name} {on}, or mlops rollout abort {name} {on}",
        ) from error

    def _release(self) -> None:
        """Record that no process drives any more. Try only once: if it fails, the lease expires by itself."""
        self._report.write(RolloutOutcome.PAUSED)
        try:
            self._place.at_once().write(self._state.left())
        except MlopsError as error:
            self._report.note(f"the lease could not be released: {error.message}")
            self._report.write(RolloutOutcome.PAUSED)


def _shown(endpoint: Endpoint) -> str:
    traffic, mirror = shares(endpoint)
    told = [f"{name} {share}%" for name, share in traffic.items()]
    return ", ".join(told + [f"copies of {share}% to {name}" for name, share in mirror.items()]) or "no traffic"
