"""The endpoint of a rollout as its driver uses it: calls are retried, and its tag has the state of the rollout."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from vision_mlops.azure.retries import retry_while_busy
from vision_mlops.core.errors import DeploymentError, MlopsError
from vision_mlops.endpoints.contract import Access, Counts, DeploymentRequest, Endpoint, Say, Target
from vision_mlops.endpoints.deployment import ROLLOUT_TAG, find
from vision_mlops.registry import Registry
from vision_mlops.rollout.probes import Ask, ask
from vision_mlops.rollout.rollout_settings import Pace
from vision_mlops.rollout.rollout_state import Order, Phase, Rollout, driver_id, pack, rollout_of

T = TypeVar("T")


class LostError(DeploymentError):
    """Another process has ended this rollout or drives it now."""


class RolloutEndpoint:
    """One endpoint of a target.

    Args:
        target: Target of the endpoint.
        name: Name of the endpoint.
        say: Gets a message when a call has to wait.
        patience: Seconds for which a call is repeated if the target is busy or cannot be reached.
    """

    def __init__(self, target: Target, name: str, say: Say, patience: float) -> None:
        self.target = target
        self.name = name
        self._say = say
        self._patience = patience

    def at_once(self) -> RolloutEndpoint:
        """Return the same endpoint without retries."""
        return RolloutEndpoint(self.target, self.name, self._say, 0.0)

    def endpoint(self) -> Endpoint:
        """Return the endpoint as it is now."""
        return self._call(lambda: self.target.endpoint(self.name))

    def access(self) -> Access:
        """Return where and with what to send requests."""
        return self._call(lambda: self.target.access(self.name))

    def counts(self) -> Mapping[str, Counts] | None:
        """Return what the target has counted; None if it does not count."""
        return self._call(lambda: self.target.counts(self.name))

    def deploy(self, request: DeploymentRequest) -> Endpoint:
        """See :meth:`Target.deploy`."""
        return self._call(lambda: self.target.deploy(request, self._say))

    def logs(self, deployment: str, lines: int) -> str:
        """Return the last lines of a deployment's log, or why they cannot be read: other calls may be failing as well."""
        try:
            return self.target.logs(self.name, deployment, lines)
        except MlopsError as error:
            return f"the log cannot be read: {error.message}"

    def set_traffic(self, traffic: Mapping[str, int], mirror: Mapping[str, int]) -> bool:
        """Set the traffic; return whether that changed it."""
        endpoint = self.endpoint()
        if shares(endpoint) == (dict(traffic), dict(mirror)):
            return False
        self._call(lambda: self.target.set_traffic(self.name, traffic, mirror))
        return True

    def delete_deployment(self, deployment: str) -> bool:
        """Delete a deployment if it exists; return whether it did."""
        if not has(self.endpoint(), deployment):
            return False
        self._call(lambda: self.target.delete_deployment(self.name, deployment))
        return True

    def look(self, state: Rollout) -> tuple[Endpoint, Rollout]:
        """Return the endpoint, and the state with what another process has ordered in the meantime.

        Raises:
            LostError: see :meth:`write`.
        """
        endpoint = self.endpoint()
        there = rollout_of(endpoint)
        _check_ours(endpoint, there, state)
        return endpoint, _with_order(state, there)

    def write(self, state: Rollout, *, first: bool = False) -> Rollout:
        """Write the state to the tag, and return it with what another process has ordered in the meantime.

        Raises:
            LostError: the rollout in the tag is not this one any more, or another machine drives it.
        """
        endpoint = self.endpoint()
        there = rollout_of(endpoint)
        if not first:
            _check_ours(endpoint, there, state)
        state = _with_order(state, there)
        self._tag(endpoint, pack(state))
        return state

    def order(self, order: Order) -> None:
        """Write an order to the driving process into the tag, unless it is too late."""
        endpoint = self.endpoint()
        state = rollout_of(endpoint)
        if state is None or state.order is order or state.phase not in (Phase.DEPLOY, Phase.STEP):
            return
        self._tag(endpoint, pack(replace(state, order=order)))

    def clear(self) -> None:
        """Remove the state from the tags, because the rollout is over."""
        self._tag(self.endpoint(), None)

    def _tag(self, endpoint: Endpoint, state: str | None) -> None:
        """Put a state into the tags of an endpoint, or remove it; the others stay, and the same tags are not sent again."""
        others = {name: value for name, value in endpoint.tags.items() if name != ROLLOUT_TAG}
        tags = others if state is None else {**others, ROLLOUT_TAG: state}
        if tags != dict(endpoint.tags):
            self._call(lambda: self.target.set_tags(self.name, tags))

    def _call(self, call: Callable[[], T]) -> T:
        if importlib.util.find_spec("azure") is None or importlib.util.find_spec("azure.core") is None:
            return call()  # then the target can only be this machine
        return retry_while_busy(call, self._say, seconds=self._patience)


@dataclass(frozen=True, slots=True)
class Controls:
    """The endpoint and how to drive its rollout, the same for all commands.

    ``images`` is a folder to probe with; None takes the golden examples. ``take_over``: do not wait for another machine.
    """

    target: Target
    registry: Registry
    endpoint: str
    say: Say
    images: Path | None = None
    pace: Pace = field(default_factory=Pace)
    roll_back_on_interrupt: bool = False
    take_over: bool = False
    ask: Ask = ask

    def place(self) -> RolloutEndpoint:
        """Return the endpoint with retries."""
        return RolloutEndpoint(self.target, self.endpoint, self.say, self.pace.patience)

    def current(self) -> Endpoint:
        """Return the endpoint as it is now. Raises DeploymentError if it does not exist."""
        endpoint = find(self.target, self.endpoint)
        if endpoint is None:
            raise DeploymentError(
                f"no endpoint {self.endpoint!r} on {self.target.name}", "create it with `mlops deploy`"
            )
        return endpoint


def shares(endpoint: Endpoint) -> tuple[dict[str, int], dict[str, int]]:
    """Return traffic and mirror of those deployments that have any."""
    traffic = {item.name: item.traffic for item in endpoint.deployments if item.traffic}
    return traffic, {item.name: item.mirror for item in endpoint.deployments if item.mirror}


def has(endpoint: Endpoint, deployment: str) -> bool:
    """Return whether it has a deployment of that name."""
    return any(item.name == deployment for item in endpoint.deployments)


def _with_order(state: Rollout, there: Rollout | None) -> Rollout:
    if there is not None and there.order and state.phase in (Phase.DEPLOY, Phase.STEP):
        return replace(state, order=there.order)
    return state


def _check_ours(endpoint: Endpoint, there: Rollout | None, state: Rollout) -> None:
    hint = f"mlops rollout status {endpoint.name}"
    if there is None or (there.candidate, there.began) != (state.candidate, state.began):
        raise LostError(f"another process has ended the rollout of {state.candidate}", hint)
    if there.driver and there.driver != driver_id():
        raise LostError(f"another machine drives the rollout of {state.candidate} now", hint)
