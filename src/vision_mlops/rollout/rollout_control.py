"""Starts, resumes, aborts and promotes a rollout, also while another process drives it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from vision_mlops.core import locks
from vision_mlops.core.errors import DeploymentError
from vision_mlops.endpoints.contract import DeploymentRequest, Endpoint
from vision_mlops.endpoints.deployment import ROLLOUT_TAG, check_options, find
from vision_mlops.registry import ModelVersion
from vision_mlops.rollout.driver import Driver, RolloutResult
from vision_mlops.rollout.driver_process import check_elsewhere, driving, elsewhere, lock_path, wake
from vision_mlops.rollout.probe_images import ProbeImage
from vision_mlops.rollout.rollout_checks import (
    champion_of,
    check_candidate,
    check_classes,
    check_probe,
    check_target,
    check_verdict,
    copied_at_most,
    probe_images,
)
from vision_mlops.rollout.rollout_endpoint import Controls, has
from vision_mlops.rollout.rollout_report import Report, RolloutOutcome
from vision_mlops.rollout.rollout_settings import (
    DEFAULT_STEPS,
    RolloutLimits,
    RolloutOptions,
    RolloutStep,
    parse_steps,
)
from vision_mlops.rollout.rollout_state import Order, Phase, Rollout, pack, rollout_of

_REPEAT_SECONDS = 3.0
"""Seconds between two checks of whether an order to another process is still in the tag."""


def start(
    controls: Controls,
    request: DeploymentRequest,
    *,
    steps: tuple[RolloutStep, ...] = parse_steps(DEFAULT_STEPS),
    limits: RolloutLimits | None = None,
    wishes: RolloutOptions | None = None,
) -> RolloutResult:
    """Roll out a candidate, or continue a rollout of the same candidate.

    Args:
        controls: Endpoint and pace.
        request: The candidate's deployment.
        steps: Steps in order.
        limits: Limits of each step.
        wishes: What to keep at the end, and whether to override warnings.

    Raises:
        DeploymentError: something speaks against it, or the target refuses.
    """
    check_target(controls.target)
    check_options(controls.target, request)
    with driving(controls.target.name, controls.endpoint):
        endpoint = controls.current()
        state = rollout_of(endpoint)
        if state is not None:
            if (state.candidate, state.model) != (request.deployment, request.model.reference):
                raise DeploymentError(
                    f"a rollout of {state.candidate} ({state.model}) is in progress at endpoint {endpoint.name!r}",
                    f"see mlops rollout status {endpoint.name}; then resume, promote or abort it",
                )
            controls.say(f"continuing the rollout of {state.candidate}, with the steps and limits that it began with")
            return _drive(controls, endpoint, state, request)
        wanted = wishes or RolloutOptions()
        steps = copied_at_most(controls.target, steps, controls.say)
        champion = champion_of(endpoint)
        check_candidate(endpoint, champion, request.deployment, request.model)
        check_verdict(request.model, controls.say, force=wanted.force)
        limits, bundles = check_classes(
            controls.registry, champion, request.model, limits or RolloutLimits(), controls.say, force=wanted.force
        )
        images = probe_images(controls.images, bundles)
        check_probe(controls.ask, controls.target.access(endpoint.name), images[0], champion.name)
        state = Rollout(
            request.deployment, champion.name, request.model.reference, int(time.time()), steps, limits, wanted,
            optioned=bool(request.options.given()),
        )  # fmt: skip
        pack(
            replace(state.driven(0), phase=Phase.ROLLBACK, number=len(steps) - 1, order=Order.PROMOTE)
        )  # at its longest
        return _run(controls, endpoint, state, images, request)


def resume(controls: Controls) -> RolloutResult:
    """Continue a rollout that no process drives. Raises DeploymentError."""
    check_target(controls.target)
    with driving(controls.target.name, controls.endpoint):
        endpoint = controls.current()
        state = rollout_of(endpoint)
        if state is None:
            raise _no_rollout(endpoint)
        return _drive(controls, endpoint, state, None)


def abort(controls: Controls) -> RolloutResult:
    """Give all traffic to the champion, whichever process drives. Raises DeploymentError."""
    return _order(controls, Order.ABORT)


def is_under_way(controls: Controls) -> bool:
    """Tell whether there is a rollout that could be ended, even one whose state cannot be read."""
    endpoint = find(controls.target, controls.endpoint)
    return endpoint is not None and ROLLOUT_TAG in endpoint.tags


def promote(controls: Controls) -> RolloutResult:
    """Give all traffic to the candidate for good, and skip the remaining steps. Raises DeploymentError."""
    return _order(controls, Order.PROMOTE)


# Driving


def _drive(controls: Controls, endpoint: Endpoint, state: Rollout, request: DeploymentRequest | None) -> RolloutResult:
    """Continue a rollout that was started, unless another machine drives it."""
    if not controls.take_over:
        check_elsewhere(controls.endpoint, state)
    if request is None and not state.optioned:
        version = controls.registry.get(state.model)
        request = DeploymentRequest(endpoint.name, state.candidate, version, controls.registry)
    ending = state.phase not in (Phase.DEPLOY, Phase.STEP) or state.order is not None
    images = [] if ending else probe_images(controls.images, _bundles(controls, endpoint, state))
    return _run(controls, endpoint, state, images, request)


def _run(
    controls: Controls,
    endpoint: Endpoint,
    state: Rollout,
    images: Sequence[ProbeImage] = (),
    request: DeploymentRequest | None = None,
    *,
    aborted: bool = False,
) -> RolloutResult:
    """Drive a rollout in this process to its end."""
    report = Report(endpoint, state, controls.registry)
    if aborted:
        report.failed(["it was aborted"])
    return Driver(controls, state, report, images, request).drive()


def _bundles(controls: Controls, endpoint: Endpoint, state: Rollout) -> list[Path]:
    """Return the bundles whose golden examples are sent; none if the user gives images."""
    if controls.images is not None:
        return []
    known: list[ModelVersion] = [controls.registry.get(state.model)]
    if state.limits.max_disagreement < 1 and has(endpoint, state.champion):
        known.append(controls.registry.get(endpoint.deployment(state.champion).reference))
    return [controls.registry.bundle_path(version) for version in known]


def _no_rollout(endpoint: Endpoint) -> DeploymentError:
    return DeploymentError(f"no rollout of endpoint {endpoint.name!r} is under way", "see mlops rollout start --help")


# Orders


def _order(controls: Controls, order: Order) -> RolloutResult:
    check_target(controls.target)
    known: Rollout | None = None
    waiting = 0.0
    while True:
        lock = locks.take(lock_path(controls.target.name, controls.endpoint))
        if lock is not None:
            with lock:
                ending = _order_here(controls, order, known)
            if ending is not None:
                return ending
        if time.monotonic() - waiting > _REPEAT_SECONDS:
            endpoint = controls.current()
            state = rollout_of(endpoint)
            if state is None:
                return _ended(controls, endpoint, known)
            if known is None:
                controls.say(f"telling the process that drives to {order} the rollout of {state.candidate}")
            known, waiting = state, time.monotonic()
            controls.place().order(order)
            wake(controls.target.name, controls.endpoint)
        time.sleep(controls.pace.tick)


def _order_here(controls: Controls, order: Order, known: Rollout | None) -> RolloutResult | None:
    """Execute the order in this process; None if another machine drives."""
    endpoint = controls.current()
    if order is Order.ABORT and known is None:
        _drop_unreadable_tag(controls, endpoint)
        endpoint = controls.current()
    state = rollout_of(endpoint)
    if state is None:
        return _ended(controls, endpoint, known)
    if elsewhere(state) and not controls.take_over:
        return None
    if order is Order.PROMOTE:
        if state.phase is Phase.ROLLBACK:
            raise DeploymentError(f"{state.candidate} is being rolled back", "abort again, then start again")
        if not has(endpoint, state.candidate):
            raise DeploymentError(f"{state.candidate} is not deployed yet", f"mlops rollout resume {endpoint.name}")
        if state.phase is not Phase.CLOSE:
            state = state.at(Phase.FINISH)
        return _run(controls, endpoint, state)
    if state.phase is Phase.CLOSE:
        controls.say(f"it is too late to abort: {state.candidate} has passed all steps, and is the champion")
        return _run(controls, endpoint, state)
    return _run(controls, endpoint, state.at(Phase.ROLLBACK), aborted=state.phase is not Phase.ROLLBACK)


def _ended(controls: Controls, endpoint: Endpoint, known: Rollout | None) -> RolloutResult:
    """Return how a rollout ended that another process drove."""
    if known is None:
        raise _no_rollout(endpoint)
    serving = endpoint.serving
    promoted = serving is not None and serving.name == known.candidate
    told = f"{serving.name if serving else 'nobody'} has the traffic of {endpoint.name}"
    controls.say(told)
    return RolloutResult(RolloutOutcome.PROMOTED if promoted else RolloutOutcome.ROLLED_BACK, (told,))


def _drop_unreadable_tag(controls: Controls, endpoint: Endpoint) -> None:
    """If the tag cannot be read, give all traffic to the deployment with most of it, and remove the tag."""
    try:
        rollout_of(endpoint)
    except DeploymentError as error:
        serving = endpoint.serving
        if serving is None:
            raise
        controls.say(f"{error.message}: giving all traffic to {serving.name}")
        place = controls.place()
        place.set_traffic({serving.name: 100}, {})
        place.clear()
        raise DeploymentError(
            f"it is not known what was rolled out at {endpoint.name!r}; {serving.name} has all traffic",
            f"remove what is left: see mlops endpoint show {endpoint.name} --on {endpoint.target}",
        ) from error
